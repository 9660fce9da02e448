"""What comes as a stream is decoded however it is cut, and a stream that is not whole is never taken for one."""

import itertools
import random
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown, HoldfastError
from holdfast.formats.stream_vmdk import GRAIN_SIZE, HEADER, SECTOR, Grain, StreamDecoder, unpack_header
from holdfast.formats.stream_vmdk_writer import encode_stream

MIB = 1 << 20
SIZE = 2 * 512 * GRAIN_SIZE + 3 * SECTOR
"""Two tables, and a bit of a third."""


Disk = dict[int, bytes]
"""The grains of a disk by their offset, without those of zeros."""


def decoded(stream: bytes, pieces: Iterator[int] | None = None) -> Disk:
    """Return the disk in a stream that comes in pieces of these sizes."""
    decoder, at = StreamDecoder(), 0
    disk = {}
    while at < len(stream):
        size = next(pieces) if pieces else 100_000
        for grain in decoder.feed(memoryview(stream)[at : at + size]):
            assert grain.end <= decoder.known_end
            disk[grain.offset] = grain.unpack()
        at += size
    decoder.finish()
    assert decoder.header is not None
    assert decoder.known_end == decoder.header.capacity_bytes
    return disk


def is_same(found: Disk, disk: Disk) -> bool:
    """Return whether two are equal, without a word about megabytes that are not."""
    return found == disk


def sample(rng: random.Random, size: int = SIZE) -> tuple[Disk, bytes]:
    """Return a disk with some data in each of its tables, and its stream."""
    starts = sorted(rng.sample(range(MIB, size - MIB, MIB), 6))
    runs = [(start + 17, rng.randbytes(rng.randrange(1, 200_000))) for start in starts] + [(size - 5, b"last!")]
    return grains_of(runs, size), b"".join(encode_stream(size, runs))


def grains_of(runs: list[tuple[int, bytes]], size: int) -> Disk:
    disk: Disk = {}
    for start, data in runs:
        for offset in range(start // GRAIN_SIZE * GRAIN_SIZE, start + len(data), GRAIN_SIZE):
            grain = bytearray(disk.get(offset, bytes(min(GRAIN_SIZE, size - offset))))
            first, last = max(start, offset), min(start + len(data), offset + GRAIN_SIZE)
            grain[first - offset : last - offset] = data[first - start : last - start]
            disk[offset] = bytes(grain)
    return disk


@pytest.fixture
def disk_and_stream(seed: int) -> tuple[Disk, bytes]:
    return sample(random.Random(seed))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(500, 3 * GRAIN_SIZE), min_size=1, max_size=20), st.integers())
def test_a_stream_is_decoded_however_it_is_cut(sizes: list[int], number: int) -> None:
    disk, stream = sample(random.Random(number))
    assert is_same(decoded(stream, itertools.cycle(sizes)), disk)


def test_holes_and_the_last_partial_grain_are_told(disk_and_stream: tuple[Disk, bytes]) -> None:
    disk, stream = disk_and_stream
    decoder = StreamDecoder()
    grains = decoder.feed(stream)
    assert decoder.is_complete
    assert (grains[-1].end, grains[-1].size) == (SIZE, 3 * SECTOR)
    assert len(grains) == len(disk) < SIZE // GRAIN_SIZE


def test_nothing_is_known_behind_the_last_grain_before_the_end(disk_and_stream: tuple[Disk, bytes]) -> None:
    _, stream = disk_and_stream
    decoder = StreamDecoder()
    grains = decoder.feed(stream[: len(stream) // 2])
    assert decoder.known_end == grains[-1].end < SIZE
    with pytest.raises(FileDamaged, match="ends in its middle"):
        decoder.finish()


def test_every_stream_that_is_cut_short_is_refused(disk_and_stream: tuple[Disk, bytes]) -> None:
    _, stream = disk_and_stream
    for length in (0, 1, SECTOR, len(stream) // 3, len(stream) - 2 * SECTOR, len(stream) - SECTOR, len(stream) - 1):
        with pytest.raises(FileDamaged):
            decoded(stream[:length])


@pytest.mark.parametrize("kind", ["flipped", "blanked", "moved", "swallowed"])
def test_damage_is_an_error_of_ours_or_does_no_harm(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    disk, stream = sample(rng)
    errors = 0
    for _ in range(150):
        try:
            assert is_same(decoded(damaged(stream, kind, rng)), disk)
        except HoldfastError:
            errors += 1
    assert errors > 100


def damaged(stream: bytes, kind: str, rng: random.Random) -> bytes:
    changed = bytearray(stream)
    at = rng.randrange(len(stream) // SECTOR - 1) * SECTOR
    if kind == "flipped":
        # In the numbers at the beginning of a sector, where it hurts most.
        changed[at + rng.randrange(20)] ^= 1 << rng.randrange(8)
        changed[at + rng.randrange(SECTOR)] ^= 0xFF
    elif kind == "blanked":
        changed[at : at + 8 * SECTOR] = bytes([rng.choice([0, 255])]) * 8 * SECTOR
    elif kind == "moved":
        other = rng.randrange(len(stream) // SECTOR - 1) * SECTOR
        changed[at : at + SECTOR], changed[other : other + SECTOR] = stream[other:][:SECTOR], stream[at:][:SECTOR]
    else:
        del changed[at : at + rng.randrange(1, 40) * SECTOR]
    return bytes(changed)


@given(st.binary(max_size=4 * SECTOR))
def test_anything_at_all_is_an_error_of_ours(content: bytes) -> None:
    with pytest.raises((FormatUnknown, FileDamaged)):
        decoded(content)


HEADER_FIELDS = {
    "version": (1, 4),
    "flags": (2, 1),
    "capacity": (3, 1 << 50),
    "grain size": (4, 3),
    "large grain": (4, 1 << 20),
    "entries": (7, 0),
    "overhead": (10, 0),
    "line ends": (12, b"\r\n\r\n"),
    "compression": (13, 2),
}


@pytest.mark.parametrize("field", HEADER_FIELDS)
def test_a_header_with_an_impossible_value_is_refused(field: str, disk_and_stream: tuple[Disk, bytes]) -> None:
    index, value = HEADER_FIELDS[field]
    fields = list(HEADER.unpack_from(disk_and_stream[1]))
    fields[index] = value
    with pytest.raises((FormatUnknown, FormatTooNew, FileDamaged)):
        unpack_header(HEADER.pack(*fields))


def test_a_header_that_announces_endless_tables_takes_no_room(disk_and_stream: tuple[Disk, bytes]) -> None:
    fields = list(HEADER.unpack_from(disk_and_stream[1]))
    fields[3], fields[4], fields[7] = 1 << 37, 2, 1
    with pytest.raises(FileDamaged, match="tables"):
        unpack_header(HEADER.pack(*fields))


@pytest.mark.parametrize("length", [0, 511, 513, 1 << 24])
def test_a_grain_that_unpacks_to_another_size_is_refused_and_takes_no_room(length: int) -> None:
    grain = Grain(0, 512, 64 * 1024, zlib.compress(bytes(length)))
    with pytest.raises(FileDamaged, match="instead of 65536"):
        grain.unpack()
    assert Grain(0, 512, 64 * 1024, zlib.compress(bytes(512))).unpack() == bytes(512)


def test_zeros_in_the_middle_are_no_end(disk_and_stream: tuple[Disk, bytes]) -> None:
    start = HEADER.unpack_from(disk_and_stream[1])[10] * SECTOR
    with pytest.raises(FileDamaged, match="without a footer"):
        decoded(disk_and_stream[1][:start] + bytes(SECTOR))


def test_a_stream_that_goes_backwards_is_refused(disk_and_stream: tuple[Disk, bytes]) -> None:
    _, stream = disk_and_stream
    twice = bytearray(stream)
    first = StreamDecoder().feed(stream)[0]
    length = -(-(12 + len(first.packed)) // SECTOR) * SECTOR
    start = HEADER.unpack_from(stream)[10] * SECTOR
    twice[start + length : start + length] = stream[start : start + length]
    with pytest.raises(FileDamaged, match="comes after"):
        decoded(bytes(twice))


def test_a_grain_that_its_table_does_not_list_is_noticed(disk_and_stream: tuple[Disk, bytes]) -> None:
    _, stream = disk_and_stream
    moved = bytearray(stream)
    start = HEADER.unpack_from(stream)[10] * SECTOR
    struct.pack_into("<Q", moved, start, struct.unpack_from("<Q", stream, start)[0] - GRAIN_SIZE // SECTOR)
    with pytest.raises(FileDamaged, match="the table at sector"):
        decoded(bytes(moved))


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("size", [SECTOR, MIB, SIZE])
def test_what_qemu_writes_is_read(size: int, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    disk = sample(rng)[0] if size == SIZE else grains_of([(0, rng.randbytes(size))], size)
    raw, stream = tmp_path / "raw", tmp_path / "vmdk"
    with raw.open("wb") as file:
        file.truncate(size)
        for offset, grain in disk.items():
            file.seek(offset)
            file.write(grain)
    how = ["-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]
    subprocess.run(["qemu-img", "convert", *how, raw, stream], check=True)
    assert is_same(decoded(stream.read_bytes()), disk)
    with pytest.raises(FileDamaged):
        decoded(stream.read_bytes().rstrip(b"\0")[:-4])
