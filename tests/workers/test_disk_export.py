"""A disk of a point is written in every format, checked, and leaves nothing behind when it fails."""

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DataDamaged, DiskWriteFailed, RestoredBytesDiffer, TargetExists
from holdfast.formats.magic import PIECE_SIZE
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.holdfast.storage.driving import KEY, back_up, make_content
from workers import disk_export
from workers.disk_export import DiskExport, ExportFormat, format_of
from workers.part_file import PartFile
from workers.qemu_img import QemuImg

CLOCK = SystemClock()
SEED = 41
CONTENT = bytes(make_content(random.Random(SEED), 90)) + bytes(40 * PIECE_SIZE) + b"z" * 1536


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """A chain whose second point has other content than its first."""
    repository = Repository.create(tmp_path / "r", HostFiles(), "ab" * 16, CLOCK.now())
    back_up(repository, bytes(len(CONTENT)), 1, None)
    with repository.open_chain(back_up(repository, CONTENT, 2, None).chain, None) as opened:
        yield opened


def quiet(what: str, done: int, of: int) -> None:
    assert what
    assert 0 <= done <= of


def content_of(path: Path, how: ExportFormat, tmp_path: Path) -> bytes:
    """Return what a file of a format holds, as its own program reads it."""
    if how is ExportFormat.RAW:
        return path.read_bytes()
    back = tmp_path / "back"
    subprocess.run(["qemu-img", "convert", "-f", how, "-O", "raw", path, back], check=True)
    return back.read_bytes()


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("verifies", [False, True])
@pytest.mark.parametrize("how", ExportFormat)
def test_a_disk_is_written_as_it_was(chain: Chain, tmp_path: Path, how: ExportFormat, verifies: bool) -> None:
    target = tmp_path / "out" / f"disk.{how}"
    target.parent.mkdir()
    report = DiskExport(how, CLOCK, verifies=verifies).run(chain.disk(2, KEY), target, quiet)
    assert content_of(target, how, tmp_path) == CONTENT, SEED
    assert (report.file, report.format, report.size_bytes, report.is_verified) == (target, how, len(CONTENT), verifies)
    assert 0 < report.data_bytes < 91 * PIECE_SIZE
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_raw_file_is_sparse(chain: Chain, tmp_path: Path) -> None:
    report = DiskExport(ExportFormat.RAW, CLOCK, verifies=True).run(chain.disk(1, KEY), tmp_path / "disk", quiet)
    assert (report.data_bytes, report.file_bytes) == (0, 0)
    assert (tmp_path / "disk").read_bytes() == bytes(len(CONTENT))


@pytest.mark.tools("qemu-img")
def test_a_vmdk_is_of_the_kind_that_vsphere_imports(chain: Chain, tmp_path: Path) -> None:
    DiskExport(ExportFormat.VMDK, CLOCK, verifies=False).run(chain.disk(2, KEY), tmp_path / "disk.vmdk", quiet)
    assert b'createType="streamOptimized"' in (tmp_path / "disk.vmdk").read_bytes()[:4096]


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("what", ["writing", "reading back", "converting"])
def test_an_interrupt_leaves_nothing_behind(chain: Chain, tmp_path: Path, what: str) -> None:
    def interrupted(doing: str, done: int, of: int) -> None:
        if doing == what:
            raise KeyboardInterrupt

    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        DiskExport(ExportFormat.QCOW2, CLOCK, verifies=True).run(chain.disk(2, KEY), folder / "disk", interrupted)
    assert list(folder.iterdir()) == []


def test_damage_is_never_written_out(chain: Chain, tmp_path: Path) -> None:
    path = chain.holder(2).path
    data = bytearray(path.read_bytes())
    unit = chain.holder(2).unit(0)
    assert unit is not None
    data[unit.offset + unit.length - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataDamaged):
        DiskExport(ExportFormat.RAW, CLOCK, verifies=False).run(chain.disk(2, KEY), tmp_path / "disk", quiet)
    assert not (tmp_path / "disk").exists()


@pytest.mark.tools("qemu-img")
def test_a_file_that_does_not_read_back_is_not_published(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = QemuImg.convert

    def sloppy(self: QemuImg, raw: Path, target: Path, kind: str, options: str = "") -> None:
        convert(self, raw, target, kind, options)
        with raw.open("r+b") as file:
            file.write(b"\xff" * 512)

    monkeypatch.setattr(QemuImg, "convert", sloppy)
    with pytest.raises(RestoredBytesDiffer):
        DiskExport(ExportFormat.VMDK, CLOCK, verifies=True).run(chain.disk(2, KEY), tmp_path / "disk", quiet)
    assert not (tmp_path / "disk").exists()


@pytest.mark.tools("qemu-img")
def test_too_little_room_is_known_before_anything_is_written(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PartFile, "free_bytes", lambda _: 91 * PIECE_SIZE)
    DiskExport(ExportFormat.RAW, CLOCK, verifies=False).run(chain.disk(2, KEY), tmp_path / "raw", quiet)
    with pytest.raises(DiskWriteFailed, match="are free"):
        DiskExport(ExportFormat.QCOW2, CLOCK, verifies=False).run(chain.disk(2, KEY), tmp_path / "qcow2", quiet)


def test_a_file_that_is_there_is_left_alone(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"mine")
    with pytest.raises(TargetExists):
        DiskExport(ExportFormat.RAW, CLOCK, verifies=False).run(chain.disk(2, KEY), tmp_path / "disk", quiet)
    assert (tmp_path / "disk").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "name, how",
    [("a.vmdk", ExportFormat.VMDK), ("a.QCOW2", ExportFormat.QCOW2), ("a.img", ExportFormat.RAW), ("a", None)],
)
def test_the_end_of_a_name_says_the_format(name: str, how: ExportFormat | None) -> None:
    assert format_of(Path(name)) == how
    assert disk_export.format_of(Path("dir.vmdk/a")) is None
