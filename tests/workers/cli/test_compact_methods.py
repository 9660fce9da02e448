"""Jobs with a method through the program, a real server and real workers."""

from pathlib import Path
from typing import Any

import pytest

from tests.workers.cli.place import Place, call, one_document

pytestmark = pytest.mark.temporal

JOB = """
[[jobs]]
name = "turned"
provider = "lab"
repository = "main"
proxy = "p1"
machines = ["turned"]
method = "reverse"
compact_full = "sunday, monday, tuesday, wednesday, thursday, friday, saturday"
[jobs.retention]
points = 2
"""


def told(config: Path, *words: str) -> Any:
    return one_document(call(*words, "--config", str(config), "--json"))


def test_a_reversed_job_keeps_its_newest_point_as_the_full_and_lets_the_oldest_go(lab: Place) -> None:
    config = lab.root / "methods.toml"
    config.write_text(lab.config.read_text() + JOB)
    lab.add_machine("turned", 5, 3 << 20)
    disk = lab.root / "turned.raw"
    expected: list[tuple[str, str]] = []
    contents = []
    for turn in range(4):
        content = bytearray(disk.read_bytes())
        content[turn << 18 : (turn << 18) + 4096] = bytes([turn + 1]) * 4096
        disk.write_bytes(content)
        contents.append(bytes(content))
        session = told(config, "backup", "turned")
        assert session["session"]["outcome"] == "success", session
        points = told(config, "points", "--machine", "turned")["points"]
        expected = [("rollback" if at < min(turn, 1) else "full", "") for at in range(min(turn + 1, 2))]
        assert [(point["kind"], "") for point in points] == expected
    report = told(config, "verify", "--machine", "turned", "--offline")["report"]
    assert (report["points"], report["damages"]) == (2, [])
