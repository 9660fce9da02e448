"""An inspection tells what it can of any file and never breaks down."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.errors import FormatUnknown, HoldfastError, RequestInvalid
from holdfast.storage.chain_files.inspector import FileReport, hex_lines, inspect_file
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.holdfast.storage.driving import CLOCK, back_up, make_content

FILES = HostFiles()


def made(tmp_path: Path, passphrase: str | None = None) -> tuple[Path, Path]:
    """Return a full and the increment behind it."""
    repository = Repository.create(tmp_path / "repository", FILES, "r", CLOCK.now())
    rng = random.Random(11)
    content = make_content(rng, 40)
    first = back_up(repository, bytes(content), 1, passphrase)
    content[5 << 16 : 6 << 16] = rng.randbytes(1 << 16)
    second = back_up(repository, bytes(content), 2, passphrase)
    folder = repository.chain_folder(first.chain)
    return folder / first.file, folder / second.file


def test_a_full_is_described(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    report = inspect_file(FILES, path, records_listed=1000)
    assert report.is_sound
    assert report.contents is not None
    assert [slot.state for slot in report.slots] == ["complete", "complete"]
    assert report.slots[0].unit_size == 256 << 10
    assert report.newest_slot == max(report.slots, key=lambda slot: slot.generation).slot
    tables = {table.name: table for table in report.tables}
    assert tables["units"].entries == report.units > 0
    assert tables["pieces of m1/disk0"].entries > 0
    assert tables["map of disk0 at point 1"].pages == 1
    assert report.scan is not None
    assert report.scan.by_kind["unit"] == report.units
    assert report.scan.stored_bytes > report.unit_bytes
    assert report.scan.behind_end == 0
    offsets = [record.offset for record in report.scan.listed]
    assert offsets == sorted(offsets)


def test_an_increment_names_what_it_continues(tmp_path: Path) -> None:
    _, path = made(tmp_path)
    contents = inspect_file(FILES, path).contents
    assert contents is not None
    assert contents.parent is not None
    assert (contents.kind, contents.parent.point) == ("increment", 1)


def test_without_the_passphrase_superblocks_and_headers_are_seen(tmp_path: Path) -> None:
    path, _ = made(tmp_path, "secret")
    report = inspect_file(FILES, path, records_listed=10)
    assert report.is_locked
    assert report.contents is None
    assert report.slots[0].cipher == "aes_256_gcm"
    assert report.scan is not None
    assert len(report.scan.listed) == 10
    assert inspect_file(FILES, path, "secret").is_sound
    assert inspect_file(FILES, path, "wrong").is_locked


def test_a_plain_file_does_not_open_with_a_passphrase(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    assert "not encrypted" in inspect_file(FILES, path, "secret").slots[0].problem


def test_one_lost_superblock_loses_nothing(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    for slot in range(2):
        with changed(path, slot * 4096 + 20) as file:
            report = inspect_file(FILES, file)
        assert not report.is_sound
        assert [s.is_valid for s in report.slots] == [slot != 0, slot != 1]
        assert report.contents is not None


def test_both_superblocks_lost_leave_the_records(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    data[4096 + 20] ^= 1
    path.write_bytes(data)
    report = inspect_file(FILES, path, records_listed=0)
    assert report.problem == "no superblock counts, so nothing else was read"
    assert report.scan is not None
    assert report.scan.by_kind["unit"] > 0


def test_a_torn_write_behind_the_end_is_told_apart(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data + data[8192:12288])
    scan = inspect_file(FILES, path, records_listed=0).scan
    assert scan is not None
    assert (scan.behind_end, scan.unreadable_headers) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"x", bytes(8192), b"HFRECORD" * 2000])
def test_what_is_no_chain_file_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(FormatUnknown, match="is not a chain file"):
        inspect_file(FILES, path, records_listed=5)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_any_damage_is_reported_and_never_breaks_down(tmp_path: Path, seed: int, passphrase: str | None) -> None:
    rng = random.Random(seed)
    path, _ = made(tmp_path, passphrase)
    original = path.read_bytes()
    for _ in range(60):
        data = bytearray(original)
        for _ in range(rng.choice([1, 3, 40])):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([1, 16, 5000])] = rng.randbytes(rng.choice([1, 16, 4096]))
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        report = inspected(path, passphrase)
        assert report is None or report.size_bytes == len(data)


def test_damage_of_any_page_is_found(tmp_path: Path) -> None:
    path, _ = made(tmp_path)
    report = inspect_file(FILES, path, records_listed=1000)
    assert report.contents is not None
    top = report.contents.points[0].disks[0].map.top
    assert top is not None
    with changed(path, top.offset + 90) as file:
        tables = {table.name: table for table in inspect_file(FILES, file).tables}
    assert "cannot be read" in tables["map of disk0 at point 1"].problems[0]
    assert not tables["units"].problems


def test_bytes_are_shown_in_lines_of_sixteen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(0x38, 0x50)))
    assert list(hex_lines(FILES, path, 8, 100)) == [
        "000000000008  40 41 42 43 44 45 46 47  48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO"
    ]
    assert list(hex_lines(FILES, path, 100, 1)) == []
    assert next(hex_lines(FILES, path, 23, 5)).split() == ["000000000017", "4f", "O"]


@pytest.mark.parametrize("offset, length", [(-1, 1), (0, 0), (0, (1 << 20) + 1)])
def test_a_range_that_is_none_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    with pytest.raises(RequestInvalid):
        next(hex_lines(FILES, tmp_path, offset, length))


def inspected(path: Path, passphrase: str | None) -> FileReport | None:
    try:
        return inspect_file(FILES, path, passphrase, records_listed=50)
    except HoldfastError:
        return None


@contextmanager
def changed(path: Path, offset: int) -> Iterator[Path]:
    """Give a file with one byte turned over, and put it right at the end."""
    original = path.read_bytes()
    data = bytearray(original)
    data[offset] ^= 0xFF
    path.write_bytes(data)
    yield path
    path.write_bytes(original)
