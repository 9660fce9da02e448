"""Bytes of the NBD protocol to values and back; no socket is touched here.

Covered is what a client of fixed newstyle servers needs: options, simple and structured replies, the metadata context
``base:allocation``. All numbers are big-endian. Names of constants are those of the protocol's specification.

Everything that comes from a server is checked before it is used: magics, lengths against bounds, runs against the
request. What does not fit raises `ProtocolViolated`.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

# Handshake
NBDMAGIC: Final = 0x4E42444D41474943
IHAVEOPT: Final = 0x49484156454F5054
OLDSTYLE_MAGIC: Final = 0x0000420281861253
OPTION_REPLY_MAGIC: Final = 0x0003E889045565A9

NBD_FLAG_FIXED_NEWSTYLE: Final = 1 << 0
NBD_FLAG_NO_ZEROES: Final = 1 << 1
NBD_FLAG_C_FIXED_NEWSTYLE: Final = 1 << 0
NBD_FLAG_C_NO_ZEROES: Final = 1 << 1

NBD_OPT_EXPORT_NAME: Final = 1
NBD_OPT_ABORT: Final = 2
NBD_OPT_INFO: Final = 6
NBD_OPT_GO: Final = 7
NBD_OPT_STRUCTURED_REPLY: Final = 8
NBD_OPT_SET_META_CONTEXT: Final = 10

NBD_REP_ACK: Final = 1
NBD_REP_INFO: Final = 3
NBD_REP_META_CONTEXT: Final = 4
NBD_REP_FLAG_ERROR: Final = 1 << 31
NBD_REP_ERR_UNSUP: Final = NBD_REP_FLAG_ERROR + 1
NBD_REP_ERR_POLICY: Final = NBD_REP_FLAG_ERROR + 2
NBD_REP_ERR_INVALID: Final = NBD_REP_FLAG_ERROR + 3
NBD_REP_ERR_PLATFORM: Final = NBD_REP_FLAG_ERROR + 4
NBD_REP_ERR_TLS_REQD: Final = NBD_REP_FLAG_ERROR + 5
NBD_REP_ERR_UNKNOWN: Final = NBD_REP_FLAG_ERROR + 6
NBD_REP_ERR_SHUTDOWN: Final = NBD_REP_FLAG_ERROR + 7
NBD_REP_ERR_BLOCK_SIZE_REQD: Final = NBD_REP_FLAG_ERROR + 8
NBD_REP_ERR_TOO_BIG: Final = NBD_REP_FLAG_ERROR + 9

NBD_INFO_EXPORT: Final = 0
NBD_INFO_BLOCK_SIZE: Final = 3

# Transmission
NBD_REQUEST_MAGIC: Final = 0x25609513
NBD_SIMPLE_REPLY_MAGIC: Final = 0x67446698
NBD_STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF

NBD_FLAG_HAS_FLAGS: Final = 1 << 0
NBD_FLAG_READ_ONLY: Final = 1 << 1
NBD_FLAG_SEND_FLUSH: Final = 1 << 2
NBD_FLAG_SEND_FUA: Final = 1 << 3
NBD_FLAG_ROTATIONAL: Final = 1 << 4
NBD_FLAG_SEND_TRIM: Final = 1 << 5
NBD_FLAG_SEND_WRITE_ZEROES: Final = 1 << 6
NBD_FLAG_SEND_DF: Final = 1 << 7
NBD_FLAG_CAN_MULTI_CONN: Final = 1 << 8
NBD_FLAG_SEND_FAST_ZERO: Final = 1 << 11

NBD_CMD_READ: Final = 0
NBD_CMD_WRITE: Final = 1
NBD_CMD_DISC: Final = 2
NBD_CMD_FLUSH: Final = 3
NBD_CMD_TRIM: Final = 4
NBD_CMD_WRITE_ZEROES: Final = 6
NBD_CMD_BLOCK_STATUS: Final = 7

NBD_CMD_FLAG_FUA: Final = 1 << 0
NBD_CMD_FLAG_NO_HOLE: Final = 1 << 1
NBD_CMD_FLAG_DF: Final = 1 << 2
NBD_CMD_FLAG_REQ_ONE: Final = 1 << 3
NBD_CMD_FLAG_FAST_ZERO: Final = 1 << 4

NBD_REPLY_FLAG_DONE: Final = 1 << 0
NBD_REPLY_TYPE_NONE: Final = 0
NBD_REPLY_TYPE_OFFSET_DATA: Final = 1
NBD_REPLY_TYPE_OFFSET_HOLE: Final = 2
NBD_REPLY_TYPE_BLOCK_STATUS: Final = 5
NBD_REPLY_TYPE_ERROR_BIT: Final = 1 << 15
NBD_REPLY_TYPE_ERROR: Final = NBD_REPLY_TYPE_ERROR_BIT + 1
NBD_REPLY_TYPE_ERROR_OFFSET: Final = NBD_REPLY_TYPE_ERROR_BIT + 2

NBD_STATE_HOLE: Final = 1 << 0
NBD_STATE_ZERO: Final = 1 << 1

BASE_ALLOCATION: Final = "base:allocation"

# Lengths in bytes of what is received whole, and bounds on what a server may send.
GREETING_SIZE: Final = 18
OPTION_REPLY_SIZE: Final = 20
REPLY_HEAD_SIZE: Final = 16
"""What both kinds of reply have at least; it is all of a simple one."""
REPLY_TAIL_SIZE: Final = 4
"""What a structured reply has more."""
OFFSET_SIZE: Final = 8
OPTION_REPLY_BYTES_MAX: Final = 64 << 10
OPTION_REPLIES_MAX: Final = 64
PAYLOAD_BYTES_MAX: Final = 16 << 20
"""Of a chunk that is no data: block status of the most fragmented window, error messages."""
NAME_BYTES_MAX: Final = 4096
SIZE_BYTES_MAX: Final = 1 << 62

_GREETING = struct.Struct(">QQH")
_OPTION = struct.Struct(">QII")
_OPTION_REPLY = struct.Struct(">QIII")
_REQUEST = struct.Struct(">IHHQQI")
_SIMPLE_HEAD = struct.Struct(">IIQ")
_STRUCTURED_HEAD = struct.Struct(">IHHQ")
_ERROR_HEAD = struct.Struct(">IH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_DATA_TAIL = struct.Struct(">IQ")
_HOLE = struct.Struct(">QI")
_INFO_EXPORT = struct.Struct(">HQH")
_INFO_BLOCK_SIZE = struct.Struct(">HIII")
_RUN = struct.Struct(">II")

_REFUSALS = {
    NBD_REP_ERR_UNSUP: "not supported",
    NBD_REP_ERR_POLICY: "forbidden by policy",
    NBD_REP_ERR_INVALID: "invalid request",
    NBD_REP_ERR_PLATFORM: "not supported on this platform",
    NBD_REP_ERR_TLS_REQD: "TLS is required",
    NBD_REP_ERR_UNKNOWN: "no such export",
    NBD_REP_ERR_SHUTDOWN: "the server is shutting down",
    NBD_REP_ERR_BLOCK_SIZE_REQD: "block sizes must be obeyed",
    NBD_REP_ERR_TOO_BIG: "too big",
}


class ProtocolViolated(ConnectionError):
    """The server sent what the protocol does not allow; nothing it sends after that is understood."""


class BlockSizes(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests a server takes: multiples of ``minimum``, data up to ``maximum`` bytes."""

    minimum: int = 1
    preferred: int = 4096
    maximum: int = 32 << 20


class ExportInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Size and abilities of an export."""

    size_bytes: int
    flags: int
    """``NBD_FLAG_*`` of the transmission phase."""


class Reply(NamedTuple):
    """Head of a reply, or of a chunk of one. ``length`` bytes follow it."""

    cookie: int
    kind: int | None
    """``NBD_REPLY_TYPE_*``; None for a simple reply."""
    flags: int
    length: int
    offset: int = 0
    """Where data begins on the export."""
    error: int = 0


def parse_greeting(data: bytes) -> int:
    """Return the server's handshake flags from its first 18 bytes."""
    magic, style, flags = _GREETING.unpack(data)
    if magic != NBDMAGIC:
        raise ProtocolViolated(f"no NBD server: it begins with {data[:8].hex()}")
    if style == OLDSTYLE_MAGIC:
        raise ProtocolViolated("the server speaks only the old style of the handshake")
    if style != IHAVEOPT:
        raise ProtocolViolated(f"unknown style of the handshake: {data[8:16].hex()}")
    if not flags & NBD_FLAG_FIXED_NEWSTYLE:
        raise ProtocolViolated("the server does not speak the fixed new style of the handshake")
    return int(flags)


def encode_client_flags(server_flags: int) -> bytes:
    """Return the answer to the greeting."""
    return _U32.pack(NBD_FLAG_C_FIXED_NEWSTYLE | (server_flags & NBD_FLAG_C_NO_ZEROES))


def encode_option(option: int, data: bytes = b"") -> bytes:
    """Return one option of the handshake."""
    return _OPTION.pack(IHAVEOPT, option, len(data)) + data


def encode_go(export: str, infos: Sequence[int]) -> bytes:
    """Return the data of ``NBD_OPT_GO`` and ``NBD_OPT_INFO``."""
    return _text(export) + _U16.pack(len(infos)) + b"".join(_U16.pack(info) for info in infos)


def encode_meta_context(export: str, queries: Sequence[str]) -> bytes:
    """Return the data of ``NBD_OPT_SET_META_CONTEXT``."""
    return _text(export) + _U32.pack(len(queries)) + b"".join(_text(query) for query in queries)


def parse_option_reply(data: bytes, option: int) -> tuple[int, int]:
    """Return type and length of a reply to ``option`` from its 20 bytes of head."""
    magic, answered, kind, length = _OPTION_REPLY.unpack(data)
    if magic != OPTION_REPLY_MAGIC:
        raise ProtocolViolated(f"a reply to option {option} begins with {data[:8].hex()}")
    if answered != option:
        raise ProtocolViolated(f"a reply to option {answered} came for option {option}")
    if length > OPTION_REPLY_BYTES_MAX:
        raise ProtocolViolated(f"a reply to option {option} has {length} bytes")
    return int(kind), int(length)


def describe_refusal(kind: int, payload: bytes) -> str:
    """Return in words why a server refuses an option."""
    reason = _REFUSALS.get(kind, f"error {kind:#x}")
    said = payload.decode("utf-8", "replace").strip()
    return f"{reason}: {said}" if said else reason


def parse_info(payload: bytes) -> ExportInfo | BlockSizes | None:
    """Return what an ``NBD_REP_INFO`` tells; None for what we do not use."""
    if len(payload) < _U16.size:
        raise ProtocolViolated(f"information of {len(payload)} bytes")
    [kind] = _U16.unpack_from(payload)
    if kind == NBD_INFO_EXPORT:
        _, size_bytes, flags = _unpack(_INFO_EXPORT, payload, "information about the export")
        if size_bytes > SIZE_BYTES_MAX:
            raise ProtocolViolated(f"an export of {size_bytes} bytes")
        return ExportInfo(size_bytes=size_bytes, flags=flags)
    if kind == NBD_INFO_BLOCK_SIZE:
        return _block_sizes(payload)
    return None


def parse_meta_context(payload: bytes) -> tuple[int, str]:
    """Return id and name of a metadata context."""
    if len(payload) < _U32.size:
        raise ProtocolViolated(f"a metadata context of {len(payload)} bytes")
    [context] = _U32.unpack_from(payload)
    return int(context), payload[_U32.size :].decode("utf-8", "replace")


def encode_request(command: int, flags: int, cookie: int, offset: int, length: int) -> bytes:
    """Return the head of a request; the data of a write follows it."""
    return _REQUEST.pack(NBD_REQUEST_MAGIC, flags, command, cookie, offset, length)


def missing_head(head: bytes | bytearray) -> int:
    """Tell from the first 16 bytes of a reply how many more belong to its head: none to a simple one.

    The offset of data counts as head, so that head and data take three calls to receive.
    """
    magic, _, kind, _ = _STRUCTURED_HEAD.unpack(head)
    if magic != NBD_STRUCTURED_REPLY_MAGIC:
        return 0
    return REPLY_TAIL_SIZE + (OFFSET_SIZE if kind == NBD_REPLY_TYPE_OFFSET_DATA else 0)


def parse_simple_reply(head: bytes | bytearray) -> Reply:
    """Return a reply of 16 bytes; data follows it only when a read succeeded."""
    magic, error, cookie = _SIMPLE_HEAD.unpack(head)
    if magic != NBD_SIMPLE_REPLY_MAGIC:
        raise ProtocolViolated(f"a reply begins with {bytes(head[:4]).hex()}")
    return Reply(cookie, None, NBD_REPLY_FLAG_DONE, 0, error=error)


def parse_structured_reply(head: bytes | bytearray, tail: bytes | bytearray) -> Reply:
    """Return the head of a chunk from its 16 bytes and the ones `missing_head` asked for.

    The length of data is without its offset; less than nothing when the server announced less than that.
    """
    _, flags, kind, cookie = _STRUCTURED_HEAD.unpack(head)
    if kind == NBD_REPLY_TYPE_OFFSET_DATA:
        length, offset = _DATA_TAIL.unpack(tail)
        return Reply(cookie, kind, flags, length - OFFSET_SIZE, offset)
    [length] = _U32.unpack_from(tail)
    return Reply(cookie, kind, flags, length)


def parse_hole(payload: bytes) -> tuple[int, int]:
    """Return offset and length of an ``NBD_REPLY_TYPE_OFFSET_HOLE``."""
    offset, length = _unpack(_HOLE, payload, "a hole")
    return offset, length


def parse_error(payload: bytes) -> tuple[int, str]:
    """Return number and message of an error chunk; what may stand behind the message is left out."""
    if len(payload) < _ERROR_HEAD.size:
        raise ProtocolViolated(f"an error chunk of {len(payload)} bytes")
    number, length = _ERROR_HEAD.unpack_from(payload)
    message = payload[_ERROR_HEAD.size : _ERROR_HEAD.size + length]
    if number == 0 or len(message) < length:
        raise ProtocolViolated(f"an error chunk with error {number} and {len(message)} of {length} bytes of message")
    return int(number), message.decode("utf-8", "replace")


def parse_block_status(payload: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Return the context's id, and length and ``NBD_STATE_*`` of each run; there is one at least, none is empty."""
    if len(payload) < _U32.size + _RUN.size or (len(payload) - _U32.size) % _RUN.size:
        raise ProtocolViolated(f"a block status of {len(payload)} bytes")
    [context] = _U32.unpack_from(payload)
    runs = list(_RUN.iter_unpack(memoryview(payload)[_U32.size :]))
    if any(length == 0 for length, _ in runs):
        raise ProtocolViolated("a block status with an empty run")
    return int(context), runs


def _block_sizes(payload: bytes) -> BlockSizes:
    _, minimum, preferred, maximum = _unpack(_INFO_BLOCK_SIZE, payload, "information about block sizes")
    is_power_of_two = minimum > 0 and minimum & (minimum - 1) == 0
    if not is_power_of_two or minimum > 1 << 16 or not minimum <= preferred <= maximum:
        raise ProtocolViolated(f"block sizes {minimum}, {preferred}, {maximum}")
    return BlockSizes(minimum=minimum, preferred=preferred, maximum=maximum)


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > NAME_BYTES_MAX:
        raise ValueError(f"a name of {len(encoded)} bytes")
    return _U32.pack(len(encoded)) + encoded


def _unpack(layout: struct.Struct, payload: bytes, what: str) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise ProtocolViolated(f"{what} of {len(payload)} bytes instead of {layout.size}")
    return layout.unpack(payload)
