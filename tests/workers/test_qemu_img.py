"""`qemu-img` is called with explicit formats; what it says against a disk becomes our error."""

import random
from pathlib import Path

import pytest

from holdfast.errors import DiskWriteFailed, RestoredBytesDiffer, ToolMissing
from workers.qemu_img import QemuImg

CONTENT = random.Random(1).randbytes(1 << 16) + bytes(1 << 16)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.tools("qemu-img")
def test_what_is_converted_compares_equal_and_a_changed_disk_does_not(raw: Path, tmp_path: Path) -> None:
    qemu, made = QemuImg(), tmp_path / "made"
    qemu.convert(raw, made, "qcow2")
    assert made.read_bytes()[:4] == b"QFI\xfb"
    qemu.compare(raw, made, "qcow2")
    raw.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(RestoredBytesDiffer, match="differs from the restore point"):
        qemu.compare(raw, made, "qcow2")


@pytest.mark.tools("qemu-img")
def test_a_disk_that_looks_like_another_format_is_taken_as_it_is(raw: Path, tmp_path: Path) -> None:
    """A guest may write the head of a qcow2 with a backing file onto its disk; nobody must follow that."""
    qemu, inner, made = QemuImg(), tmp_path / "inner", tmp_path / "made"
    qemu.convert(raw, inner, "qcow2")
    qemu.convert(inner, made, "raw")
    assert made.read_bytes() == inner.read_bytes()


@pytest.mark.tools("qemu-img")
def test_what_the_program_says_is_told(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskWriteFailed, match="No such file or directory"):
        QemuImg().convert(raw, tmp_path / "no" / "made", "qcow2")
    with pytest.raises(DiskWriteFailed, match="cannot read"):
        QemuImg().compare(raw, raw, "qcow2")


def test_a_missing_program_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing) as caught:
        QemuImg()
    assert "apt install qemu-utils" in caught.value.hint
