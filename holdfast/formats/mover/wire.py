"""Numbers, sizes, limits and frames of the mover protocol (docs/formats/mover-protocol.md).

Version history: 1, the first.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum

import msgspec
from isal.isal_zlib import crc32

from holdfast.errors import ProtocolError

MAGIC = b"HFMOVER1"
VERSION = 1
"""The newest version this code speaks."""
VERSION_MIN = 1
"""The oldest version this code speaks."""

STREAMS_MAX = 100
PAYLOAD_MAX = (4 << 20) + (64 << 10)
"""One unit of the largest size, its piece entries and its head."""
RANGES_MAX = 256
"""How many ranges an acknowledgement may list."""
FRAME_COST = 256
"""What a frame takes of the window beside its payload; covers the memory that keeps track of it."""

HEADER_SIZE = 40
_HEADER = struct.Struct("<BBHIQQQI")  # up to, not including, the header checksum
_CRC = struct.Struct("<I")
_RANGE = struct.Struct("<QI")
RANGE_SIZE = _RANGE.size


class FrameKind(IntEnum):
    """What a frame is."""

    DATA = 1
    ACK = 2
    NACK = 3
    LOST = 4
    GONE = 5
    END = 6


LENGTH_MAX = {
    FrameKind.DATA: PAYLOAD_MAX,
    FrameKind.ACK: RANGES_MAX * RANGE_SIZE,
    FrameKind.NACK: 0,
    FrameKind.LOST: 0,
    FrameKind.GONE: RANGES_MAX * RANGE_SIZE,
    FrameKind.END: 0,
}
"""The longest payload of each kind."""

_LENGTH_MAX_BY_NUMBER = {int(kind): length for kind, length in LENGTH_MAX.items()}


class FrameHeader(msgspec.Struct, frozen=True, gc=False):
    """The fixed part of a frame."""

    kind: int
    length: int
    sequence: int
    acknowledged: int
    limit: int
    payload_crc: int


class HeaderDamaged(Exception):
    """The line changed a header, so that nothing behind it can be found; its connection is given up."""


Range = tuple[int, int]
"""First sequence number and count of frames that arrived out of order."""


def window_min(message_max: int) -> int:
    """Return the smallest window of a receiver, so that the longest message always fits sooner or later."""
    return 2 * (message_max + FRAME_COST)


def pack_header(header: tuple[int, int, int], credit: tuple[int, int], payload_crc: int) -> bytes:
    """Return the header of a frame from (kind, length, sequence) and (acknowledged, limit)."""
    kind, length, sequence = header
    front = _HEADER.pack(kind, 0, 0, length, sequence, credit[0], credit[1], payload_crc)
    return front + _CRC.pack(crc32(front))


def unpack_header(data: bytes | bytearray) -> FrameHeader:
    """Return the header in 40 bytes.

    Raises `HeaderDamaged` when the line changed it, `ProtocolError` when it was sent so.
    """
    view = memoryview(data)
    if crc32(view[:36]) != _CRC.unpack_from(data, 36)[0]:
        raise HeaderDamaged
    kind, flags, zero, length, sequence, acknowledged, limit, payload_crc = _HEADER.unpack_from(data)
    longest = _LENGTH_MAX_BY_NUMBER.get(kind)
    if longest is None or flags or zero:
        raise ProtocolError(f"frame states kind {kind}, flags {flags} and {zero}")
    if length > longest or (kind == FrameKind.DATA and not length):
        raise ProtocolError(f"frame of kind {kind} states {length} bytes, {longest} are allowed")
    return FrameHeader(kind, length, sequence, acknowledged, limit, payload_crc)


def pack_ranges(ranges: Sequence[Range]) -> bytes:
    """Return the payload of an acknowledgement."""
    return b"".join(_RANGE.pack(*found) for found in ranges)


def unpack_ranges(payload: bytes | memoryview) -> list[Range]:
    """Return the ranges in the payload of an acknowledgement, ascending and apart. Raises `ProtocolError`."""
    if len(payload) % RANGE_SIZE:
        raise ProtocolError(f"acknowledgement has {len(payload)} bytes")
    ranges = [(first, count) for first, count in _RANGE.iter_unpack(payload)]
    end = -1
    for first, count in ranges:
        if first <= end or not count:
            raise ProtocolError(f"acknowledgement lists {count} frames from {first} behind {end}")
        end = first + count
    return ranges
