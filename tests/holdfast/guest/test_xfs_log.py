"""Only a log whose last record is that of an unmount holds nothing."""

import re
import struct
from pathlib import Path

import pytest

from holdfast.guest.volume import VolumeState
from holdfast.guest.xfs_log import Log, log_unclean_reason
from holdfast.testing.images import MIB
from tests.holdfast.guest.drives import look, patch, run, sparse, window

pytestmark = pytest.mark.tools("mkfs.xfs", "xfs_db", "xfs_repair")

BLOCK = 512
UUID = b"u" * 16


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = sparse(tmp_path / "xfs.raw", 320 * MIB)
    run("mkfs.xfs", "-q", "-f", path)
    return path


def log_of(image: Path) -> int:
    """Return the first byte of the log."""
    ask = ("-c", "sb 0", "-c", "print logstart", "-c", "convert fsblock %d byte")
    start = re.search(r"= (\d+)", run("xfs_db", "-r", *ask[:4], image))
    assert start is not None
    found = re.search(r"\((\d+)\)", run("xfs_db", "-r", "-c", f"convert fsblock {start[1]} byte", image))
    assert found is not None
    return int(found[1])


def record(number: int, block: int, *, operations: int = 1, body: int = 1, unmount: bool = True) -> bytes:
    """Return a record of one header block and its body; ``number`` is the round."""
    place = number << 32 | block
    head = struct.pack(">IIIIQQIII", 0xFEEDBABE, number, 2, body * BLOCK, place, place, 0, 0, operations)
    head = (head.ljust(304, b"\0") + UUID + struct.pack(">I", 32768)).ljust(BLOCK, b"\0")
    first = struct.pack(">IIBBH", number, 8, 0xAA, 0x20 if unmount else 1, 0) + struct.pack(">H", 0x556E)
    rest = b"".join(struct.pack(">I", number).ljust(BLOCK, b"\0") for _ in range(body - 1))
    return head + first.ljust(BLOCK, b"\0") + rest


def ring(blocks: int, writes: list[tuple[int, bytes]], *, number: int = 1) -> bytes:
    """Return a log of a round ``number`` in which something was written over the blocks of the round before."""
    data = bytearray(struct.pack(">I", number).ljust(BLOCK, b"\0") * blocks)
    for at, written in writes:
        for index in range(len(written) // BLOCK):
            place = (at + index) % blocks * BLOCK
            data[place : place + BLOCK] = written[index * BLOCK : (index + 1) * BLOCK]
    return bytes(data)


def reason(data: bytes) -> str:
    return log_unclean_reason(window(data), Log(start=0, blocks=len(data) // BLOCK, uuid=UUID))


def test_a_new_log_holds_nothing(image: Path) -> None:
    assert look(image).volumes[0].state is VolumeState.CLEAN


def test_a_log_that_was_emptied_by_repair_holds_nothing(image: Path) -> None:
    run("xfs_repair", "-L", "-f", image)
    assert look(image).volumes[0].state is VolumeState.CLEAN


def test_a_record_behind_the_unmount_is_something(image: Path) -> None:
    start = log_of(image)
    end = next(at for at in range(1, 100) if not any(window(image).read(start + at * BLOCK, 4)))
    patch(image, start + end * BLOCK, record(1, end, unmount=False))
    assert "log has to be replayed" in look(image).volumes[0].reason


@pytest.mark.parametrize("at", [0, 1, 50, 97, 98, 99])
def test_an_unmount_is_found_wherever_the_ring_ends(at: int) -> None:
    before, after = record(5, at), record(6, 0)
    data = ring(100, [(0, struct.pack(">I", 5).ljust(BLOCK, b"\0") * at), (at, before)], number=4)
    if at == 99:  # the record goes on at the start of the ring, in the next round
        data = ring(100, [(99, before[:BLOCK]), (0, after[BLOCK:])], number=5)
    assert reason(data) == ""


def test_a_round_that_is_just_full_is_understood() -> None:
    assert reason(ring(100, [(98, record(7, 98))], number=7)) == ""


@pytest.mark.parametrize(
    "last",
    [
        record(2, 10, unmount=False),
        record(2, 10, operations=3),
        record(2, 10, body=4)[: 3 * BLOCK],
        record(2, 10).replace(UUID, b"v" * 16),
        record(2, 10)[:BLOCK].replace(struct.pack(">I", 32768), struct.pack(">I", 65536)) + record(2, 10)[BLOCK:],
        record(2, 10) + struct.pack(">I", 2).ljust(BLOCK, b"\0"),
    ],
)
def test_anything_else_at_the_end_is_something(last: bytes) -> None:
    data = ring(100, [(0, struct.pack(">I", 2).ljust(BLOCK, b"\0") * 10), (10, last)], number=1)
    assert "log has to be replayed" in reason(data)


def test_a_log_without_records_is_not_understood() -> None:
    assert reason(ring(2000, [])) == "its log has no last record"
    assert reason(bytes(BLOCK)) == "its log has no size"
