"""Frame headers come back as they were, and nothing else is taken for one."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ProtocolError
from holdfast.formats.mover.wire import (
    LENGTH_MAX,
    RANGE_SIZE,
    FrameHeader,
    FrameKind,
    HeaderDamaged,
    pack_header,
    pack_ranges,
    unpack_header,
    unpack_ranges,
    window_min,
)

HEADER = pack_header((FrameKind.DATA, 5, 6), (7, 8), 9)
NUMBERS = st.integers(0, (1 << 64) - 1)


def sealed(front: bytes) -> bytes:
    """Return a header whose checksum is right, whatever it says."""
    assert len(front) == len(HEADER) - 4
    return front + zlib.crc32(front).to_bytes(4, "little")


@given(st.sampled_from(FrameKind), NUMBERS, NUMBERS, NUMBERS, st.integers(0, (1 << 32) - 1))
def test_a_header_comes_back(kind: FrameKind, sequence: int, below: int, limit: int, payload_crc: int) -> None:
    length = max(1, LENGTH_MAX[kind]) if kind is FrameKind.DATA else LENGTH_MAX[kind]
    data = pack_header((kind, length, sequence), (below, limit), payload_crc)
    assert unpack_header(data) == FrameHeader(kind, length, sequence, below, limit, payload_crc)


def test_a_header_with_any_bit_changed_is_damaged() -> None:
    for bit in range(len(HEADER) * 8):
        changed = bytearray(HEADER)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(HeaderDamaged):
            unpack_header(changed)


@pytest.mark.parametrize("at, value", [(0, 0), (0, 7), (0, 255), (1, 1), (2, 1), (3, 1)])
def test_an_unknown_kind_or_flag_is_refused(at: int, value: int) -> None:
    changed = bytearray(HEADER[:-4])
    changed[at] = value
    with pytest.raises(ProtocolError, match=r"^frame states kind"):
        unpack_header(sealed(bytes(changed)))


@pytest.mark.parametrize("kind", FrameKind)
def test_a_payload_above_the_limit_of_its_kind_is_refused(kind: FrameKind) -> None:
    with pytest.raises(ProtocolError, match=r"are allowed$"):
        unpack_header(pack_header((kind, LENGTH_MAX[kind] + 1, 0), (0, 0), 0))


def test_a_message_without_a_byte_is_refused() -> None:
    with pytest.raises(ProtocolError, match="states 0 bytes"):
        unpack_header(pack_header((FrameKind.DATA, 0, 0), (0, 0), 0))


def test_ranges_come_back() -> None:
    ranges = [(0, 1), (2, 5), (8, (1 << 32) - 1)]
    assert unpack_ranges(pack_ranges(ranges)) == ranges
    assert unpack_ranges(b"") == []


@pytest.mark.parametrize("ranges", [[(5, 0)], [(5, 2), (6, 1)], [(5, 2), (7, 1)], [(5, 1), (1, 1)]])
def test_ranges_that_are_empty_or_not_apart_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ProtocolError, match=r"^acknowledgement lists"):
        unpack_ranges(pack_ranges(ranges))


def test_half_a_range_is_refused() -> None:
    with pytest.raises(ProtocolError, match="has 13 bytes"):
        unpack_ranges(bytes(RANGE_SIZE + 1))


def test_the_longest_message_fits_twice_into_the_smallest_window() -> None:
    assert window_min(1000) == 2 * (1000 + 256)
