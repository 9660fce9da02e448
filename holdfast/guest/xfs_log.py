"""Whether the log of an XFS holds changes: it does not when the last thing in it is the record of an unmount.

The log is a ring of 512-byte blocks that begin with the number of the round in which they were written. Where the
number falls is the head; the last record before it tells. Whatever cannot be told this way counts as changes.
"""

import struct

import msgspec

from holdfast.guest.window import Window

_BLOCK = 512
_MAGIC = 0xFEEDBABE
_HEADER = struct.Struct(">IIIIQQIII")
_UUID_AT = 304
_SIZE_AT = 320
_HEADER_COVERS = 32 << 10
_RECORD_BLOCKS_MAX = 600
_UNMOUNT_FLAG = 0x20
_UNMOUNT_MAGIC = 0x556E
_IN_USE = "its log has to be replayed: it is mounted, or was not unmounted"


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log is. ``start`` in bytes of the volume, ``blocks`` of 512 bytes."""

    start: int
    blocks: int
    uuid: bytes


def log_unclean_reason(volume: Window, log: Log) -> str:
    """Return why the log may hold changes; empty when it holds none. Raises `Implausible`."""
    if log.blocks < 2:
        return "its log has no size"
    head = _head(volume, log)
    start = _last_record(volume, log, head)
    if start is None:
        return "its log has no last record"
    header = volume.read(log.start + start * _BLOCK, _BLOCK)
    _, _, version, length, _, _, _, _, operations = _HEADER.unpack_from(header)
    size = struct.unpack_from(">I", header, _SIZE_AT)[0]
    headers = -(-size // _HEADER_COVERS) if version & 2 and size > _HEADER_COVERS else 1
    body = -(-length // _BLOCK)
    if header[_UUID_AT : _UUID_AT + 16] != log.uuid or operations != 1 or body < 1:
        return _IN_USE
    if (start + headers + body) % log.blocks != head % log.blocks:
        return _IN_USE
    place = (start + headers) % log.blocks
    operation = volume.read(log.start + place * _BLOCK, 16)
    is_unmount = operation[9] & _UNMOUNT_FLAG and _UNMOUNT_MAGIC in struct.unpack_from(">H", operation, 12) + (
        struct.unpack_from("<H", operation, 12)
    )
    return "" if is_unmount else _IN_USE


def _head(volume: Window, log: Log) -> int:
    """Return the block that will be written next."""
    first, last = _round(volume, log, 0), _round(volume, log, log.blocks - 1)
    if first == last:
        return log.blocks
    low, high = 0, log.blocks - 1
    while high - low > 1:
        middle = (low + high) // 2
        if _round(volume, log, middle) == first:
            low = middle
        else:
            high = middle
    return high


def _round(volume: Window, log: Log, block: int) -> int:
    magic, number = struct.unpack(">II", volume.read(log.start + block * _BLOCK, 8))
    return int(number if magic == _MAGIC else magic)


def _last_record(volume: Window, log: Log, head: int) -> int | None:
    """Return the block of the last record header before the head, going round the ring once at most."""
    for back in range(1, min(log.blocks, _RECORD_BLOCKS_MAX) + 1):
        block = (head - back) % log.blocks
        if volume.read(log.start + block * _BLOCK, 4) == _MAGIC.to_bytes(4, "big"):
            return block
    return None
