"""The health file of a chain: when its bytes were last read, and what was found damaged (docs/formats/chain-health.md).

Nothing depends on it but what is read when: without it everything counts as never read, and nothing as damaged.
"""

import struct
import zlib
from typing import Final

import msgspec

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown
from holdfast.formats.magic import FORMAT_VERSION
from holdfast.model.points import Health
from holdfast.model.reads import ReadSpan

HEALTH_MAGIC: Final = b"HFHEALTH"
_HEAD: Final = struct.Struct("<8sI")


class UnitMark(msgspec.Struct, frozen=True, array_like=True):
    """A unit that could not be read."""

    unit: int
    reason: str


class FileHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one chain file."""

    file: str
    """Id."""
    reads: tuple[ReadSpan, ...] = ()
    """Sorted, without overlaps."""
    units: tuple[UnitMark, ...] = ()
    """Damaged ones, by number."""
    problem: str = ""
    """What is wrong with its tables; empty when nothing is."""


class PointMark(msgspec.Struct, frozen=True, kw_only=True):
    """A point that was found damaged once."""

    number: int
    point_id: str
    machine: str
    state: Health
    reason: str = ""


class ChainHealth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a chain."""

    format: int = FORMAT_VERSION
    files: tuple[FileHealth, ...] = ()
    points: tuple[PointMark, ...] = ()

    def file(self, file_id: str) -> FileHealth:
        """Return what is known of a file; nothing when it is new."""
        return next((known for known in self.files if known.file == file_id), FileHealth(file=file_id))

    def with_file(self, health: FileHealth) -> "ChainHealth":
        """Return the same with another word on one file."""
        others = tuple(known for known in self.files if known.file != health.file)
        return msgspec.structs.replace(self, files=(*others, health))

    def mark(self, number: int) -> PointMark | None:
        """Return the mark of a point, or None when it was never found damaged."""
        return next((mark for mark in self.points if mark.number == number), None)


_CHAIN_HEALTH_DECODER: Final = msgspec.json.Decoder(ChainHealth)


def encode_health(health: ChainHealth) -> bytes:
    """Return the bytes of the file."""
    body = msgspec.json.encode(health)
    return _HEAD.pack(HEALTH_MAGIC, zlib.crc32(body)) + body


def decode_health(data: bytes) -> ChainHealth:
    """Return what the bytes say. Raises `FormatUnknown`, `FormatTooNew`, `FileDamaged`."""
    if data[:8] != HEALTH_MAGIC:
        raise FormatUnknown("no chain health file: the magic number is missing")
    if len(data) < _HEAD.size or zlib.crc32(data[_HEAD.size :]) != _HEAD.unpack_from(data)[1]:
        raise FileDamaged("chain health file does not match its checksum")
    try:
        health = _CHAIN_HEALTH_DECODER.decode(data[_HEAD.size :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileDamaged(f"chain health file cannot be read: {error}") from error
    if health.format > FORMAT_VERSION:
        raise FormatTooNew(f"chain health file has format {health.format}, this version knows {FORMAT_VERSION}")
    return health
