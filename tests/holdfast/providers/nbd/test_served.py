"""A disk that brings its server along."""

from pathlib import Path

import pytest

from holdfast.errors import DiskReadFailed, DiskWriteFailed, ToolMissing
from holdfast.model.spans import Span
from holdfast.providers.nbd.served import ServedDisk
from holdfast.providers.nbd.server import ServerPlan

pytestmark = pytest.mark.tools("nbdkit")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let temporary folders be made where the test can see them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_closing_the_disk_ends_its_server(folder: Path) -> None:
    disk = ServedDisk(ServerPlan(plugin=("memory", "1M"), is_read_only=False))
    disk.write(0, memoryview(b"x" * 512))
    disk.flush()
    assert next(iter(disk.allocated_spans())).start == 0
    [made] = folder.iterdir()
    assert made.is_dir()
    disk.close()
    disk.close()
    assert list(folder.iterdir()) == []


def test_a_plan_for_reading_opens_a_reader(folder: Path) -> None:
    with ServedDisk(ServerPlan(plugin=("memory", "1M")), connections_max=1) as disk:
        assert disk.connections == 1
        with pytest.raises(DiskWriteFailed, match="opened for reading"):
            disk.write_zeros(Span(0, 512))
    assert list(folder.iterdir()) == []


def test_a_disk_that_cannot_be_opened_leaves_no_server(folder: Path) -> None:
    script = folder / "plugin.py"
    script.write_text(
        "API_VERSION = 2\n"
        "def open(readonly): raise RuntimeError('login refused')\n"
        "def get_size(handle): return 512\n"
        "def pread(handle, buffer, offset, flags): pass\n"
    )
    with pytest.raises(DiskReadFailed, match="login refused"):
        ServedDisk(ServerPlan(plugin=("python", str(script))))
    with pytest.raises(DiskWriteFailed, match="lets nobody write"):
        ServedDisk(ServerPlan(plugin=("pattern", "1M"), is_read_only=False))
    with pytest.raises(ToolMissing):
        ServedDisk(ServerPlan(plugin=("no-such-thing",)))
    assert list(folder.iterdir()) == [script]
