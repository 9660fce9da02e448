"""What differs between two points is told exactly, by digests inside a chain and by bytes between chains."""

import random
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskNotFound
from holdfast.formats.magic import PIECE_SIZE
from holdfast.guest import changed_files
from holdfast.model.difference import DiskDifference
from holdfast.model.ids import SessionId
from holdfast.model.machine import Disk, SnapshotDisk
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span, coalesce
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.tools.difference import Comparison, merged_spans
from holdfast.testing.chains import transfer_disk
from holdfast.testing.sparse import SparseDisk
from tests.holdfast.storage.driving import KEY, back_up, make_content, snapshot_of


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "r", HostFiles(), "ab" * 16, SystemClock().now())


def expected(old: bytes, new: bytes) -> list[Span]:
    size = max(len(old), len(new))
    old, new = old.ljust(size, b"\0"), new.ljust(size, b"\0")
    pieces = (at for at in range(0, size, PIECE_SIZE) if old[at : at + PIECE_SIZE] != new[at : at + PIECE_SIZE])
    return list(coalesce(Span(at, min(PIECE_SIZE, size - at)) for at in pieces))


def quiet(done: int, of: int) -> None:
    assert 0 <= done <= of


def compared(repository: Repository, chain: str, old: int, new: int, spans_max: int = 1000) -> DiskDifference:
    with repository.open_chain(chain, None) as opened:
        sides = (opened, old), (opened, new)
        return Comparison(*sides, spans_max=spans_max, files_max=None).disk(KEY, quiet)


def changed(rng: random.Random, content: bytes, size: int | None = None) -> bytes:
    """Return content of which some pieces are others, some are zeros, and some come from elsewhere in it."""
    found = bytearray(content)
    for _ in range(rng.randrange(8)):
        at = rng.randrange(len(found) // PIECE_SIZE) * PIECE_SIZE
        other = rng.randrange(len(found) // PIECE_SIZE) * PIECE_SIZE
        piece = rng.choice([rng.randbytes(PIECE_SIZE), bytes(PIECE_SIZE), bytes(found[other : other + PIECE_SIZE])])
        found[at : at + PIECE_SIZE] = piece
    return bytes(found if size is None else found[:size].ljust(size, b"\0"))


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when a unit is read."""

    def refused(self: ChainFile, number: int) -> None:
        raise AssertionError(f"unit {number} of {self.path.name} is read")

    monkeypatch.setattr(ChainFile, "read_unit", refused)


def test_points_of_one_chain_are_compared_without_reading_a_disk(
    repository: Repository, request: pytest.FixtureRequest
) -> None:
    seed = 21
    rng = random.Random(seed)
    contents = [bytes(make_content(rng, 48))]
    sizes = [None, None, 60 * PIECE_SIZE, None, 20 * PIECE_SIZE - 1024, None]
    for size in sizes:
        contents.append(changed(rng, contents[-1], size))
    chain = [back_up(repository, content, number, None) for number, content in enumerate(contents, 1)][-1].chain
    request.getfixturevalue("unread")
    for old, before in enumerate(contents, 1):
        for new, after in enumerate(contents, 1):
            found = compared(repository, chain, old, new)
            assert list(found.spans) == expected(before, after), (seed, old, new)
            assert found.changed_bytes == sum(span.length for span in found.spans)
            assert (found.old_size_bytes, found.new_size_bytes) == (len(before), len(after))
            assert (found.compared_by, found.unnamed_spans) == ("digests", 0)


def test_a_large_sparse_disk_is_compared_at_once(repository: Repository, request: pytest.FixtureRequest) -> None:
    """Pages of the map that both points lack are passed over."""
    size = 9 << 30
    disk = SparseDisk(size)
    disk.put((size - 1) // PIECE_SIZE, b"z")
    chain = ""
    for number, first in enumerate((b"a", b"b"), 1):
        disk.put(0, first)
        chain = back_up_sparse(repository, disk, number)
    request.getfixturevalue("unread")
    assert list(compared(repository, chain, 1, 2).spans) == [Span(0, PIECE_SIZE)]


def back_up_sparse(repository: Repository, disk: SparseDisk, number: int) -> str:
    """Make a point of a disk and return the name of its chain."""
    taken = snapshot_of(b"", number)
    size = disk.size_bytes
    machine = msgspec.structs.replace(taken.machine, disks=(Disk(key=KEY, size_bytes=size),))
    snapshot = msgspec.structs.replace(taken, disks=(SnapshotDisk(key=KEY, size_bytes=size),), machine=machine)
    opened = begin_point(repository, SessionId(f"session-{number}"), snapshot, StoreOptions(unit_size=256 << 10))
    store, pipe = StoreOptions(unit_size=256 << 10), PipeOptions()
    transfer_disk(repository, opened, KEY, disk, (ReadMode.COMPARED, [], store, pipe))
    finish_point(repository, opened, None)
    return opened.chain


def test_points_of_two_chains_are_compared_by_their_bytes(repository: Repository, tmp_path: Path) -> None:
    other = Repository.create(tmp_path / "other", HostFiles(), "cd" * 16, SystemClock().now())
    seed = 22
    rng = random.Random(seed)
    before = bytes(make_content(rng, 40))
    for size in (None, 50 * PIECE_SIZE, 30 * PIECE_SIZE - 512):
        number = len(list(other.points())) + 1
        after = changed(rng, before, size)
        one = back_up(repository, before, number, None)
        two = back_up(other, after, number, None)
        with repository.open_chain(one.chain, None) as old, other.open_chain(two.chain, None) as new:
            sides = (old, one.number), (new, two.number)
            found = Comparison(*sides, spans_max=1000, files_max=None).disk(KEY, quiet)
        assert list(found.spans) == expected(before, after), seed
        assert found.compared_by == "bytes"


def test_no_more_spans_are_named_than_asked_for(repository: Repository) -> None:
    before = bytes(20 * PIECE_SIZE)
    after = b"".join(b"x" * PIECE_SIZE + bytes(PIECE_SIZE) for _ in range(10))
    back_up(repository, before, 1, None)
    chain = back_up(repository, after, 2, None).chain
    found = compared(repository, chain, 1, 2, spans_max=3)
    assert [span.start // PIECE_SIZE for span in found.spans] == [0, 2, 4]
    assert (found.unnamed_spans, found.changed_bytes) == (7, 10 * PIECE_SIZE)


def test_a_disk_that_neither_point_has_is_refused(repository: Repository) -> None:
    chain = back_up(repository, bytes(PIECE_SIZE), 1, None).chain
    with repository.open_chain(chain, None) as opened:
        comparison = Comparison((opened, 1), (opened, 1), spans_max=1, files_max=1)
        assert comparison.keys() == [KEY]
        with pytest.raises(DiskNotFound, match="neither point"):
            comparison.disk("other", quiet)


def test_too_many_places_are_not_searched_for_files(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changed_files, "SPANS_MAX", 1)
    back_up(repository, bytes(8 * PIECE_SIZE), 1, None)
    chain = back_up(repository, (b"x" * PIECE_SIZE + bytes(PIECE_SIZE)) * 4, 2, None).chain
    with repository.open_chain(chain, None) as opened:
        found = Comparison((opened, 1), (opened, 2), spans_max=9, files_max=9).disk(KEY, quiet)
    assert "more than" in found.reason
    assert found.new_volumes == ()


def test_volumes_are_looked_at_where_files_are_asked_for(repository: Repository) -> None:
    back_up(repository, bytes(8 * PIECE_SIZE), 1, None)
    chain = back_up(repository, b"x" * PIECE_SIZE + bytes(7 * PIECE_SIZE), 2, None).chain
    with repository.open_chain(chain, None) as opened:
        found = Comparison((opened, 1), (opened, 2), spans_max=9, files_max=9).disk(KEY, quiet)
    assert [volume.reason for volume in found.new_volumes] == ["it bears the marks of nothing known"]
    assert [volume.changed_bytes for volume in found.old_volumes] == [PIECE_SIZE]


def test_runs_that_touch_are_one_span_and_end_with_the_disk() -> None:
    pieces: list[range] = [range(1), range(1, 3), range(5, 6)]
    assert list(merged_spans(iter(pieces), 6 * PIECE_SIZE - 512)) == [
        Span(0, 3 * PIECE_SIZE),
        Span(5 * PIECE_SIZE, PIECE_SIZE - 512),
    ]
