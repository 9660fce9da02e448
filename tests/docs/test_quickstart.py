"""The quickstart is carried out, command by command, as it stands on the page."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.architecture import tree
from tests.docs import pages
from workers.loopback import LOOPBACK, free_ports

PAGE = "docs/quickstart.md"
DISK = "/srv/vm/web.raw"
WORKER = "holdfast worker all"
STOP = "holdfast dev stop"
# The demonstration is a test of its own, and the environment of the test stands for the installation.
LEFT_OUT = ("make demo", "export PATH")
DEADLINE_S = 60
ROLES = 3
MIB = 1 << 20


class Reader:
    """Somebody who follows the page in a home folder of his own."""

    def __init__(self, home: Path, environment: dict[str, str], seed: int) -> None:
        self.folder = home / "protect"
        self.disk = home / "web.raw"
        [port] = free_ports(1)
        path = f"{Path(sys.executable).parent}:{environment['PATH']}"
        self._environment = environment | {"HOME": str(home), "PATH": path, "TEMPORAL_ADDRESS": f"{LOOPBACK}:{port}"}
        self.write(seed)

    def write(self, seed: int) -> None:
        """Let the machine write something."""
        with self.disk.open("r+b" if self.disk.exists() else "w+b") as disk:
            disk.truncate(64 * MIB)
            disk.seek(seed % 48 * MIB)
            disk.write(random.Random(seed).randbytes(3 * MIB))

    def run(self, line: str) -> str:
        """Carry out one command and return what it says."""
        words = line.replace(DISK, str(self.disk)).replace("dev start", "dev start --ui-port 0")
        cwd = self.folder if self.folder.exists() else self.folder.parent
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", words],
            cwd=cwd,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Keep the worker running."""
        worker = subprocess.Popen(
            WORKER.split(), cwd=self.folder, env=self._environment, stderr=subprocess.PIPE, text=True
        )
        assert worker.stderr is not None
        try:
            for _ in range(ROLES):
                assert "ready" in worker.stderr.readline()
            yield
        finally:
            worker.terminate()
            worker.stderr.close()
            worker.wait(DEADLINE_S)


@pytest.fixture
def reader(tmp_path: Path, child_environment: dict[str, str], seed: int) -> Iterator[Reader]:
    reader = Reader(tmp_path, child_environment, seed)
    yield reader
    if reader.folder.exists():
        reader.run(STOP)


@pytest.mark.slow
@pytest.mark.temporal
@pytest.mark.timeout(400)
def test_the_quickstart_leads_to_identical_disks(reader: Reader, seed: int) -> None:
    before, after = parts()
    for language, text in before:
        if language == "toml":
            (reader.folder / "holdfast.toml").write_text(text, "utf-8")
        else:
            carry_out(reader, text)
    with reader.worker():
        for number, (_, text) in enumerate(after):
            carry_out(reader, text)
            reader.write(seed + 1) if number == 1 else None
        points = json.loads(reader.run("holdfast points --json"))["points"]
        assert [point["kind"] for point in points] == ["full", "increment"]
        assert all(point["complete"] and point["encrypted"] for point in points)
    [copy] = reader.folder.glob("hypervisor/machines/web-copy-*/*.raw")
    assert copy.read_bytes() == reader.disk.read_bytes()


def parts() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the blocks before the worker is started, and those behind."""
    found = [(name, text) for _, name, text in pages.CODE_BLOCK.findall(tree.text(PAGE)) if name in {"console", "toml"}]
    [at] = [index for index, (_, text) in enumerate(found) if WORKER in text]
    return found[: at + 1], found[at + 1 :]


def carry_out(reader: Reader, block: str) -> None:
    """Carry out the commands of a block."""
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        if line not in {WORKER, STOP} and not line.startswith(LEFT_OUT):
            reader.run(line)
