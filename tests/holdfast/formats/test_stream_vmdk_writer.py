"""What is added in the order of the disk becomes a stream that others read, too."""

import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import LimitExceeded
from holdfast.formats.stream_vmdk import GRAIN_SIZE, SECTOR, StreamDecoder
from holdfast.formats.stream_vmdk_writer import StreamEncoder, encode_stream

MIB = 1 << 20
SIZE = 40 * MIB + SECTOR
RUN = st.tuples(st.integers(0, 2 * MIB), st.binary(min_size=1, max_size=100), st.integers(1, 3000))


def content_of(stream: bytes) -> bytes:
    decoder = StreamDecoder()
    grains = decoder.feed(stream)
    decoder.finish()
    assert decoder.header is not None
    disk = bytearray(decoder.header.capacity_bytes)
    for grain in grains:
        disk[grain.offset : grain.end] = grain.unpack()
    return bytes(disk)


@settings(max_examples=30, deadline=None)
@given(st.lists(RUN, max_size=12))
def test_runs_of_any_place_and_size_come_back(parts: list[tuple[int, bytes, int]]) -> None:
    disk, runs, at = bytearray(SIZE), [], 0
    for gap, data, times in parts:
        at += gap
        run = (data * times)[: SIZE - at]
        if run:
            disk[at : at + len(run)] = run
            runs.append((at, run))
            at += len(run)
    is_same = content_of(b"".join(encode_stream(SIZE, runs))) == disk
    assert is_same


def test_zeros_take_no_room() -> None:
    empty = b"".join(encode_stream(SIZE, []))
    assert b"".join(encode_stream(SIZE, [(0, bytes(MIB)), (7 * MIB, bytes(3 * MIB))])) == empty
    assert not any(content_of(empty))


def test_a_stream_comes_while_it_is_added_to() -> None:
    encoder = StreamEncoder(SIZE)
    data = random.Random(1).randbytes(GRAIN_SIZE)
    assert len(encoder.add(0, data)) >= SECTOR
    sizes = [len(encoder.add(at * GRAIN_SIZE, data)) for at in range(1, 20)]
    assert min(sizes) > GRAIN_SIZE * 0.9
    assert max(sizes) < GRAIN_SIZE * 1.1


def test_a_place_that_the_format_cannot_say_is_refused() -> None:
    encoder = StreamEncoder(SIZE)
    encoder._sectors = (1 << 32) + 1
    encoder.add(0, b"x")
    with pytest.raises(LimitExceeded, match="2 TiB"):
        encoder.add(GRAIN_SIZE, b"x")


@pytest.mark.parametrize("offset, length", [(0, 1), (SIZE, 1)])
def test_what_is_out_of_order_or_outside_is_a_defect(offset: int, length: int) -> None:
    encoder = StreamEncoder(SIZE)
    encoder.add(0, b"xy")
    with pytest.raises(AssertionError):
        encoder.add(offset, bytes(length))


@pytest.mark.tools("qemu-img")
@pytest.mark.parametrize("size", [SECTOR, MIB, SIZE])
def test_qemu_reads_what_is_written(size: int, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    runs = [(at, rng.randbytes(min(rng.randrange(1, 200_000), size - at))) for at in range(0, size, 3 * MIB)]
    disk = bytearray(size)
    for at, data in runs:
        disk[at : at + len(data)] = data
    (tmp_path / "raw").write_bytes(disk)
    (tmp_path / "vmdk").write_bytes(b"".join(encode_stream(size, runs)))
    compare = ["qemu-img", "compare", "-f", "raw", "-F", "vmdk", str(tmp_path / "raw"), str(tmp_path / "vmdk")]
    subprocess.run(compare, check=True)
    subprocess.run(["qemu-img", "info", "-f", "vmdk", tmp_path / "vmdk"], check=True)
