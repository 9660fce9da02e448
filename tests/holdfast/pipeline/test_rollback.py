"""A disk goes back to a restore point piece by piece, and only where it differs."""

import random
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import OperationCancelled, RestoredBytesDiffer
from holdfast.formats.contents import LeftOut
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.pipeline.restore import differing_pieces
from holdfast.pipeline.rollback import DiskRollback, Repaired
from holdfast.pipeline.stages import PipeProgress
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.pipeline.test_restore import KEY, Run, Source, Unit, scattered

if TYPE_CHECKING:
    from collections.abc import Callable

CLOCK = SystemClock()


class Watched(MemoryDisk):
    """Notes where it is written to."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.written: list[Span] = []

    @override
    def write(self, offset: int, data: memoryview) -> None:
        self.written.append(Span(offset, len(data)))
        super().write(offset, data)

    @property
    def pieces(self) -> set[int]:
        return {at // PIECE_SIZE for span in self.written for at in range(span.start, span.end, PIECE_SIZE)}


def whole(seed: int, pieces: int = 80) -> tuple[Source, bytes]:
    """Return a disk of random bytes, and its content."""
    file = Unit(random.Random(seed).randbytes(pieces * PIECE_SIZE))
    return Source(pieces * PIECE_SIZE, [Run(0, pieces, file, 0)]), b"".join(file.bodies)


def changed_at(content: bytes, *pieces: int) -> Watched:
    later = bytearray(content)
    for piece in pieces:
        later[piece * PIECE_SIZE + 5] ^= 0xFF
    return Watched(bytes(later))


def rollback_of(source: Source, target: MemoryDisk) -> DiskRollback:
    return DiskRollback(source, target, KEY, CLOCK)


def ignored(_: PipeProgress) -> None:
    pass


def test_only_pieces_that_changed_spans_touch_are_written(seed: int) -> None:
    source, content = whole(seed)
    target = changed_at(content, 0, 1, 40)
    spans = [Span(100, PIECE_SIZE), Span(40 * PIECE_SIZE, 1)]
    done = rollback_of(source, target).write_changed(spans, 0, ignored)
    assert target.flushed == content
    assert target.pieces == {0, 1, 40}
    assert done.written_bytes == 3 * PIECE_SIZE == done.figures.read_bytes
    assert done.figures.processed_bytes == source.size_bytes


@pytest.mark.parametrize("round_", range(6))
def test_a_comparison_writes_the_pieces_that_differ_and_no_others(seed: int, round_: int) -> None:
    source, content = whole(seed)
    changed = sorted(random.Random(seed + round_).sample(range(source.pieces), round_ * 5))
    target = changed_at(content, *changed)
    done = rollback_of(source, target).write_differing(0, ignored)
    assert target.flushed == content
    assert target.pieces == set(changed)
    assert done.figures.read_bytes == source.size_bytes + len(changed) * PIECE_SIZE
    assert done.figures.stored_bytes == done.written_bytes == len(changed) * PIECE_SIZE


@pytest.mark.parametrize("round_", range(6))
def test_a_scattered_disk_comes_back_over_whatever_was_there(seed: int, round_: int) -> None:
    source, content = scattered(seed + round_, cut=0)
    target = MemoryDisk(random.Random(seed).randbytes(source.size_bytes))
    rollback_of(source, target).write_differing(0, ignored)
    assert target.flushed == content


def test_zeros_count_as_written(seed: int) -> None:
    del seed
    source = Source(4 * PIECE_SIZE, [Run(0, 4, None, 0)])
    target = MemoryDisk(b"\xaa" * source.size_bytes)
    done = rollback_of(source, target).write_changed([Span(PIECE_SIZE, 1)], 0, ignored)
    assert (done.written_bytes, done.figures.stored_bytes) == (PIECE_SIZE, 0)
    assert not any(target.content[PIECE_SIZE : 2 * PIECE_SIZE])


@pytest.mark.parametrize("way", ["changed", "differing"])
def test_a_rollback_goes_on_from_a_piece(seed: int, way: str) -> None:
    source, content = whole(seed)
    target = changed_at(content, 3, 50)
    rollback = rollback_of(source, target)
    if way == "changed":
        rollback.write_changed([Span(0, source.size_bytes)], 20, ignored)
        assert target.pieces == set(range(20, source.pieces))
    else:
        rollback.write_differing(20, ignored)
        assert target.pieces == {50}


def test_what_was_compared_and_found_equal_is_committed_without_a_flush(seed: int) -> None:
    source, content = whole(seed)
    target = changed_at(content, 64)
    committed: list[int] = []

    def report(progress: PipeProgress) -> None:
        committed.append(progress.committed_bytes)
        if progress.committed_bytes > 64 * PIECE_SIZE:
            assert target.flushed == content

    rollback_of(source, target).write_differing(0, report)
    assert 64 * PIECE_SIZE in committed
    assert committed == sorted(committed)


@pytest.mark.parametrize("way", ["changed", "differing"])
def test_what_the_report_raises_stops_the_rollback(seed: int, way: str) -> None:
    source, content = whole(seed)

    def cancel(progress: PipeProgress) -> None:
        raise OperationCancelled(f"enough at {progress.reached_bytes}")

    rollback = rollback_of(source, changed_at(content, 3))
    run: dict[str, Callable[[], object]] = {
        "changed": lambda: rollback.write_changed([Span(0, 1)], 0, cancel),
        "differing": lambda: rollback.write_differing(0, cancel),
    }
    with pytest.raises(OperationCancelled):
        run[way]()


def test_what_change_tracking_left_out_is_found_and_written(seed: int) -> None:
    source, content = whole(seed)
    target = changed_at(content, 3, 50, 51)
    rollback = rollback_of(source, target)
    rollback.write_changed([Span(3 * PIECE_SIZE, 1)], 0, ignored)
    reports: list[int] = []
    assert rollback.make_equal(reports.append) == Repaired(2 * PIECE_SIZE)
    assert target.flushed == content
    assert reports[0] == 0
    assert reports[-1] == 2 * PIECE_SIZE
    assert rollback.make_equal(lambda _: None) == Repaired()


def with_zeros(seed: int) -> tuple[Source, Watched]:
    """Return a point whose pieces 8 to 15 are zeros, and a disk with old bytes there."""
    file = Unit(random.Random(seed).randbytes(8 * PIECE_SIZE))
    source = Source(16 * PIECE_SIZE, [Run(0, 8, file, 0), Run(8, 8, None, 0)])
    return source, Watched(b"".join(file.bodies) + b"\xaa" * (8 * PIECE_SIZE))


@pytest.mark.parametrize(
    "left_out, passed_over",
    [
        (LeftOut(deleted=True), set(range(8, 16))),
        (LeftOut(swap=((12 * PIECE_SIZE, 2 * PIECE_SIZE), (0, 9 * PIECE_SIZE))), {8, 12, 13}),
        (LeftOut(swap=((2 * PIECE_SIZE, PIECE_SIZE),)), set()),
    ],
)
def test_what_a_point_lacks_is_no_difference(seed: int, left_out: LeftOut, passed_over: set[int]) -> None:
    source, target = with_zeros(seed)
    done = rollback_of(source, target).write_differing(0, ignored, left_out)
    assert {at for at in range(16) if target.content[at * PIECE_SIZE] == 0xAA} == passed_over
    assert done.written_bytes == (8 - len(passed_over)) * PIECE_SIZE


def test_a_target_that_differs_only_in_what_the_point_lacks_is_left_alone(seed: int) -> None:
    source, target = with_zeros(seed)
    before = bytes(target.content)
    assert rollback_of(source, target).make_equal(lambda _: None, LeftOut(deleted=True)) == Repaired()
    assert target.content == before


def test_once_something_else_differs_all_zeros_are_in_doubt_and_written(seed: int) -> None:
    source, target = with_zeros(seed)
    content = bytes(target.content[: 8 * PIECE_SIZE]) + bytes(8 * PIECE_SIZE)
    target.content[3 * PIECE_SIZE] ^= 0xFF
    repaired = rollback_of(source, target).make_equal(lambda _: None, LeftOut(deleted=True))
    assert repaired == Repaired(PIECE_SIZE, 8 * PIECE_SIZE)
    assert target.flushed == content


class Forgetful(MemoryDisk):
    @override
    def write(self, offset: int, data: memoryview) -> None:
        pass


def test_a_target_that_does_not_keep_what_is_written_is_not_believed(seed: int) -> None:
    source, content = whole(seed)
    target = Forgetful(bytes(changed_at(content, 7).content))
    with pytest.raises(RestoredBytesDiffer, match=f"offset {7 * PIECE_SIZE}"):
        rollback_of(source, target).make_equal(lambda _: None)


def test_differing_pieces_are_all_named(seed: int) -> None:
    source, content = whole(seed)
    target = changed_at(content, 1, 2, 9)
    assert differing_pieces(target, source, KEY, range(16)) == [1, 2, 9]
    assert differing_pieces(target, source, KEY, range(3, 9)) == []
    assert piece_digests(content[:PIECE_SIZE], KEY) == [bytes(source.piece_digests(0, 1))]


def test_a_disk_that_began_empty_is_written_without_a_look(seed: int) -> None:
    source, content = whole(seed)

    class Unread(Watched):
        @override
        def read_into(self, offset: int, buffer: memoryview) -> None:
            raise AssertionError(f"{len(buffer)} bytes at {offset} were read")

    target = Unread(bytes(len(content)))
    done = rollback_of(source, target).write_all(ignored)
    assert target.flushed == content
    assert (done.written_bytes, done.compared_bytes) == (source.size_bytes, 0)


def test_what_a_dead_attempt_wrote_is_neither_fetched_nor_written_again(seed: int) -> None:
    source, content = whole(seed)
    target = Watched(content[: 32 * PIECE_SIZE].ljust(len(content), b"\0"))
    done = rollback_of(source, target).write_rest(4, 20, ignored)
    assert target.flushed == content
    assert target.pieces == set(range(32, source.pieces))
    file = next(source.runs(0, 1)).file
    assert isinstance(file, Unit)
    assert min(file.reads) == 32 // file.pieces_per_unit
    assert (done.equal_bytes, done.again_bytes) == (28 * PIECE_SIZE, 0)
    assert done.written_bytes == (source.pieces - 32) * PIECE_SIZE


@pytest.mark.parametrize("way", ["rest", "differing"])
def test_what_a_dead_attempt_left_in_memory_is_flushed_before_it_counts(seed: int, way: str) -> None:
    source, content = whole(seed)
    target = Watched(content)
    target.flushed = b""

    def report(progress: PipeProgress) -> None:
        assert target.flushed == content or not progress.committed_bytes

    rollback = rollback_of(source, target)
    done = rollback.write_rest(0, 0, report) if way == "rest" else rollback.write_differing(0, report)
    assert done.equal_bytes == source.size_bytes
    assert target.written == []
