"""What differs from a point is found by reading the target, many blocks at once, and no further than it pays."""

import random
import threading

import pytest
from typing_extensions import override

from holdfast.formats.magic import PIECE_SIZE
from holdfast.pipeline import comparing
from holdfast.pipeline.comparing import IN_FLIGHT, Comparison
from holdfast.pipeline.restore import BLOCK_PIECES
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.pipeline.test_restore import KEY, Run, Source, Unit
from tests.holdfast.pipeline.test_rollback import changed_at, whole

BLOCK = BLOCK_PIECES * PIECE_SIZE


def pieces_of(runs: list[range]) -> list[int]:
    return [piece for run in runs for piece in run]


def test_runs_are_the_pieces_that_differ_and_everything_is_counted(seed: int) -> None:
    source, content = whole(seed)
    comparison = Comparison(source, changed_at(content, 0, 1, 40), KEY)
    assert pieces_of(list(comparison.runs(0))) == [0, 1, 40]
    assert comparison.compared_bytes == source.size_bytes
    assert comparison.equal_bytes == source.size_bytes - 3 * PIECE_SIZE


def test_the_end_of_a_disk_that_is_no_whole_piece_is_counted_as_long_as_it_is(seed: int) -> None:
    file = Unit(random.Random(seed).randbytes(2 * PIECE_SIZE))
    source = Source(2 * PIECE_SIZE - 512, [Run(0, 2, file, 0)])
    comparison = Comparison(source, MemoryDisk(bytes(source.size_bytes)), KEY)
    assert pieces_of(list(comparison.runs(0))) == [0, 1]
    assert (comparison.compared_bytes, comparison.equal_bytes) == (source.size_bytes, 0)


def test_sixteen_blocks_are_read_at_once(seed: int) -> None:
    source, content = whole(seed, IN_FLIGHT * BLOCK_PIECES)
    together = threading.Barrier(IN_FLIGHT, timeout=30)

    class Meeting(MemoryDisk):
        @override
        def read_into(self, offset: int, buffer: memoryview) -> None:
            together.wait()
            super().read_into(offset, buffer)

    assert pieces_of(list(Comparison(source, Meeting(content), KEY).runs(0))) == []


def part_written(content: bytes, blocks: int) -> MemoryDisk:
    """Return a disk that began empty and got its first blocks."""
    return MemoryDisk(content[: blocks * BLOCK].ljust(len(content), b"\0"))


def test_behind_what_was_written_nothing_is_read_for_long(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "UNWRITTEN_BYTES", 2 * BLOCK)
    source, content = whole(seed, 60 * BLOCK_PIECES)
    comparison = Comparison(source, part_written(content, 9), KEY)
    runs = list(comparison.runs_of_rest(0, 4 * BLOCK_PIECES))
    assert pieces_of(runs) == list(range(9 * BLOCK_PIECES, source.pieces))
    assert comparison.compared_bytes == 11 * BLOCK
    assert comparison.equal_bytes == 9 * BLOCK
    assert comparison.again_bytes == 0
    assert runs[-1] == range(11 * BLOCK_PIECES, source.pieces)


def test_what_was_reported_is_looked_at_to_its_end_and_what_is_lost_is_counted(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "UNWRITTEN_BYTES", BLOCK)
    source, content = whole(seed, 30 * BLOCK_PIECES)
    kept = bytearray(content[: 20 * BLOCK].ljust(len(content), b"\0"))
    kept[5 * BLOCK : 10 * BLOCK] = bytes(5 * BLOCK)
    comparison = Comparison(source, MemoryDisk(kept), KEY)
    lost = list(range(5 * BLOCK_PIECES, 10 * BLOCK_PIECES))
    assert pieces_of(list(comparison.runs_of_rest(0, 20 * BLOCK_PIECES))) == [
        *lost,
        *range(20 * BLOCK_PIECES, source.pieces),
    ]
    assert comparison.again_bytes == 5 * BLOCK


def test_stretches_of_zeros_are_no_sign_of_anything_and_not_read(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "UNWRITTEN_BYTES", BLOCK)
    file = Unit(random.Random(seed).randbytes(2 * BLOCK))
    runs = [
        Run(0, BLOCK_PIECES, file, 0),
        Run(BLOCK_PIECES, 8 * BLOCK_PIECES, None, 0),
        Run(9 * BLOCK_PIECES, BLOCK_PIECES, file, BLOCK_PIECES),
    ]
    source = Source(10 * BLOCK, runs)
    content = b"".join(file.bodies)
    comparison = Comparison(source, MemoryDisk(content[:BLOCK] + bytes(8 * BLOCK) + content[BLOCK:]), KEY)
    assert pieces_of(list(comparison.runs_of_rest(0, 0))) == list(range(BLOCK_PIECES, 9 * BLOCK_PIECES))
    assert comparison.compared_bytes == comparison.equal_bytes == 2 * BLOCK
