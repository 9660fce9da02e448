"""A restore point goes to a target piece by piece, each compared with its digest before it is written."""

import random
from collections.abc import Iterator
from concurrent.futures import Executor, Future

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import DataDamaged, DiskWriteFailed, FileDamaged, OperationCancelled, RestoredBytesDiffer
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import DIGEST_SIZE, PIECE_SIZE
from holdfast.formats.record import PieceEntry
from holdfast.model.spans import Span
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.restore import DiskRestore, HeldRun, checked_unit, compare_target
from holdfast.pipeline.stages import PipeProgress
from holdfast.testing.memory import MemoryDisk

KEY = bytes(range(32))
CLOCK = SystemClock()


class Unit:
    """A file of one unit size that holds units in memory."""

    pieces_per_unit = 4

    def __init__(self, content: bytes) -> None:
        size = self.pieces_per_unit * PIECE_SIZE
        self.bodies = [content[at : at + size] for at in range(0, len(content), size)]
        self.tabled = [piece_digests(body, KEY) for body in self.bodies]
        self.reads: list[int] = []

    def read_unit(self, number: int) -> tuple[list[PieceEntry], bytes | memoryview]:
        self.reads.append(number)
        digests = piece_digests(self.bodies[number], KEY)
        return [PieceEntry(bytes(8), 0, digest) for digest in digests], self.bodies[number]

    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]":
        return pool.submit(checked_unit, self, number, key)

    def digests(self, place: int, count: int) -> bytes:
        joined = b"".join(digest for digests in self.tabled for digest in digests)
        return joined[place * DIGEST_SIZE : (place + count) * DIGEST_SIZE]


class Run(msgspec.Struct, frozen=True):
    piece: int
    count: int
    file: Unit | None
    place: int


class Source:
    """A disk at a point, as a list of runs."""

    def __init__(self, size_bytes: int, runs: list[Run]) -> None:
        self.size_bytes = size_bytes
        self.pieces = -(-size_bytes // PIECE_SIZE)
        self._runs = runs
        self.round_trip_s = 0.0

    def runs(self, start: int, end: int) -> Iterator[HeldRun]:
        for run in self._runs:
            low, high = max(start, run.piece), min(end, run.piece + run.count)
            if low < high:
                yield Run(low, high - low, run.file, run.place + low - run.piece)

    def watch(self, busy: PipeClocks) -> None: ...

    def piece_digests(self, start: int, end: int) -> bytearray:
        found = bytearray()
        for run in self.runs(start, end):
            file = run.file
            assert file is None or isinstance(file, Unit)
            found += bytes(run.count * DIGEST_SIZE) if file is None else file.digests(run.place, run.count)
        return found


def scattered(seed: int, pieces: int = 40, cut: int = 512) -> tuple[Source, bytes]:
    """Return a disk whose pieces lie all over two files, with zeros between, and its content."""
    rng = random.Random(seed)
    files = [Unit(rng.randbytes(6 * 4 * PIECE_SIZE)) for _ in range(2)]
    runs: list[Run] = []
    content = bytearray()
    while len(content) < pieces * PIECE_SIZE:
        piece, file = len(content) // PIECE_SIZE, rng.choice([*files, None])
        count = min(rng.randrange(1, 9), pieces - piece)
        place = rng.randrange(24 - count)
        runs.append(Run(piece, count, file, place))
        stored = bytes(count * PIECE_SIZE) if file is None else b"".join(file.bodies)[place * PIECE_SIZE :]
        content += stored[: count * PIECE_SIZE]
    size = pieces * PIECE_SIZE - cut
    return Source(size, runs), bytes(content[:size])


def run(source: Source, target: MemoryDisk, first: int = 0) -> list[PipeProgress]:
    progress: list[PipeProgress] = []
    DiskRestore(source, target, KEY, CLOCK).run(first, progress.append)
    return progress


@pytest.mark.parametrize("round_", range(6))
def test_a_scattered_disk_comes_out_whole_over_whatever_was_there(seed: int, round_: int) -> None:
    source, content = scattered(seed + round_)
    target = MemoryDisk(b"\xaa" * source.size_bytes)
    progress = run(source, target)
    # The last piece was cut at the end of the disk; what its digest covers behind it is not restored.
    assert bytes(target.content) == content
    assert target.flushed == content
    assert progress[-1].reached_bytes == source.size_bytes


def test_sixteen_units_are_in_flight(seed: int) -> None:
    units = 40
    flights: list[Future[bytes | memoryview]] = []

    class Awaited(Future["bytes | memoryview"]):
        """Is looked at only when enough others are on their way."""

        @override
        def result(self, timeout: float | None = None) -> bytes | memoryview:
            assert len(flights) - flights.index(self) >= min(16, units - flights.index(self))
            return super().result(timeout)

    class Far(Unit):
        @override
        def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]":
            flight = Awaited()
            flight.set_result(checked_unit(self, number, key))
            flights.append(flight)
            return flight

    file = Far(random.Random(seed).randbytes(units * Unit.pieces_per_unit * PIECE_SIZE))
    pieces = units * Unit.pieces_per_unit
    source = Source(pieces * PIECE_SIZE, [Run(0, pieces, file, 0)])
    run(source, MemoryDisk(bytes(source.size_bytes)))
    assert len(flights) == units


def test_a_restore_goes_on_from_a_piece(seed: int) -> None:
    source, content = scattered(seed)
    first = source.pieces // 2
    target = MemoryDisk(b"\xaa" * source.size_bytes)
    run(source, target, first)
    assert bytes(target.content) == b"\xaa" * (first * PIECE_SIZE) + content[first * PIECE_SIZE :]


def test_a_disk_without_pieces_is_restored(seed: int) -> None:
    del seed
    assert run(Source(0, []), MemoryDisk(b"")) == []


def test_a_unit_is_decoded_once_for_neighbouring_pieces() -> None:
    file = Unit(random.Random(1).randbytes(4 * PIECE_SIZE))
    source = Source(8 * PIECE_SIZE, [Run(0, 2, file, 0), Run(2, 4, None, 0), Run(6, 2, file, 2)])
    run(source, MemoryDisk(bytes(source.size_bytes)))
    assert file.reads == [0]


@pytest.mark.parametrize("damage", ["body", "table"])
def test_a_damaged_piece_is_never_written(damage: str) -> None:
    file = Unit(random.Random(1).randbytes(8 * PIECE_SIZE))
    source = Source(8 * PIECE_SIZE, [Run(0, 8, file, 0)])
    if damage == "body":
        file.bodies[1] = file.bodies[1][:5] + b"?" + file.bodies[1][6:]
    else:
        file.tabled[1][0] = bytes(DIGEST_SIZE)
    target = MemoryDisk(bytes(8 * PIECE_SIZE))
    with pytest.raises(DataDamaged, match=r"unit 1: the pieces in slots \[0\]"):
        run(source, target)
    assert bytes(target.content[4 * PIECE_SIZE :]) == bytes(4 * PIECE_SIZE)


class Full(MemoryDisk):
    @override
    def write(self, offset: int, data: memoryview) -> None:
        if offset >= 4 * PIECE_SIZE:
            raise DiskWriteFailed("no space left on the target")
        super().write(offset, data)


class NoFlush(MemoryDisk):
    @override
    def flush(self) -> None:
        raise DiskWriteFailed("flush failed")


def test_a_target_that_cannot_be_written_or_flushed_stops_the_restore(seed: int) -> None:
    source, _ = scattered(seed)
    for target in (Full(bytes(source.size_bytes)), NoFlush(bytes(source.size_bytes))):
        with pytest.raises(DiskWriteFailed):
            run(source, target)


def test_a_broken_source_stops_the_restore(seed: int) -> None:
    source, _ = scattered(seed)
    real = source.runs

    def broken(start: int, end: int) -> Iterator[HeldRun]:
        for count, found in enumerate(real(start, end)):
            if count == 3:
                raise FileDamaged("a page is lost")
            yield found

    source.runs = broken  # type: ignore[method-assign] # a table with a hole
    with pytest.raises(FileDamaged):
        run(source, MemoryDisk(bytes(source.size_bytes)))


def test_what_the_report_raises_stops_the_restore(seed: int) -> None:
    source, _ = scattered(seed)

    def cancel(progress: PipeProgress) -> None:
        raise OperationCancelled(f"enough at {progress.reached_bytes}")

    with pytest.raises(OperationCancelled):
        DiskRestore(source, MemoryDisk(bytes(source.size_bytes)), KEY, CLOCK).run(0, cancel)


def test_only_what_was_flushed_is_told_as_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.pipeline.restore._FLUSH_BYTES", 4 * PIECE_SIZE)
    file = Unit(random.Random(1).randbytes(64 * PIECE_SIZE))
    source = Source(64 * PIECE_SIZE, [Run(0, 64, file, 0)])
    target = MemoryDisk(bytes(64 * PIECE_SIZE))
    expected = b"".join(file.bodies)
    seen = set()

    def report(progress: PipeProgress) -> None:
        assert target.flushed[: progress.committed_bytes] == expected[: progress.committed_bytes]
        seen.add(progress.committed_bytes)

    DiskRestore(source, target, KEY, CLOCK).run(0, report)
    assert len(seen) > 2


def test_no_more_than_two_flushes_worth_is_written_and_not_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.pipeline.restore._FLUSH_BYTES", 8 * PIECE_SIZE)
    content = bytes(range(1, 201)) * (PIECE_SIZE * 100 // 200)
    source = Source(len(content), [Run(0, 100, Unit(content), 0)])
    block = 16 * PIECE_SIZE  # a flush is asked for behind a block, and waits for the one before

    def report(progress: PipeProgress) -> None:
        assert progress.reached_bytes - progress.committed_bytes <= 2 * block

    DiskRestore(source, MemoryDisk(bytes(len(content))), KEY, CLOCK).run(0, report)


def test_reading_back_finds_the_first_place_that_differs(seed: int) -> None:
    source, content = scattered(seed, cut=0)
    seen: list[int] = []
    compare_target(source, MemoryDisk(content), KEY, seen.append)
    assert seen[-1] == source.size_bytes
    changed = bytearray(content)
    changed[21 * PIECE_SIZE + 77] ^= 1
    with pytest.raises(RestoredBytesDiffer, match=f"at offset {21 * PIECE_SIZE}"):
        compare_target(source, MemoryDisk(changed), KEY, seen.append)


def test_zeros_are_written_as_zeros_only() -> None:
    class Watching(MemoryDisk):
        zeroed: list[Span] = []  # noqa: RUF012 - one disk in this test

        @override
        def write_zeros(self, span: Span) -> None:
            self.zeroed.append(span)
            super().write_zeros(span)

    target = Watching(b"\xaa" * (100 * PIECE_SIZE - 512))
    run(Source(100 * PIECE_SIZE - 512, [Run(0, 100, None, 0)]), target)
    assert target.zeroed == [Span(0, 100 * PIECE_SIZE - 512)]
    assert not any(target.content)
