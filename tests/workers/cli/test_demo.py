"""The demonstration keeps every promise it makes, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

PROGRAM = [sys.executable, "-c", "from workers.cli.main import main; main()"]


@pytest.mark.timeout(400)
@pytest.mark.tools("mke2fs", "debugfs", "e2fsck")
@pytest.mark.parametrize(
    "hypervisor", [pytest.param("local", marks=pytest.mark.soak), pytest.param("vsphere", marks=pytest.mark.vsphere)]
)
def test_the_small_demonstration_survives_both_deaths_and_restores_every_byte(
    tmp_path: Path, child_environment: dict[str, str], hypervisor: str
) -> None:
    folder = tmp_path / "demo"
    ended = subprocess.run(
        [*PROGRAM, "demo", "--small", "--on", hypervisor, "--folder", str(folder), "--json"],
        capture_output=True,
        env=child_environment,
        timeout=380,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout.decode() + ended.stderr.decode()
    acts = {act["what"]: act for act in msgspec.json.decode(ended.stdout)["acts"]}
    assert "killed mid-disk" in acts["increment, proxy killed"]["shown"]
    assert "MiB sent again" in acts["increment, proxy killed"]["shown"]
    assert "the session went on" in acts["increment, server killed"]["shown"]
    assert acts["verify all points"]["shown"].startswith("6 points")
    assert acts["restore web01"]["shown"].count("identical") == 2
    assert acts["restore db01"]["shown"].count("identical") == 1
    for file in (folder / "logs").iterdir():
        for trace in file.read_text(errors="replace").split("Traceback (most recent call last)")[1:]:
            # A host that gives a worker no processor for two seconds looks like this to it; the task is run again.
            assert "[TMPRL1101] Potential deadlock detected" in trace, f"{file.name}: {trace}"


def test_a_folder_that_is_in_use_is_left_alone(tmp_path: Path, child_environment: dict[str, str]) -> None:
    (tmp_path / "mine").touch()
    ended = subprocess.run(
        [*PROGRAM, "demo", "--folder", str(tmp_path), "--json"],
        capture_output=True,
        env=child_environment,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 12
    assert msgspec.json.decode(ended.stdout)["error"]["code"] == "request-invalid"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
