"""What two movers say to each other (docs/formats/mover-protocol.md section 6).

A message is a *head*, a MessagePack array that begins with the number of its kind, and a *body* of raw bytes. A decoder
checks the size of the head, then every member, then the size of the body, before anything is made of them; whatever
comes, it raises `ProtocolError` and nothing else.

New members are added at the end, with defaults.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from holdfast.errors import HoldfastError, ProtocolError, error_class
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import (
    DIGEST_SIZE,
    PIECE_SIZE,
    PIECES_PER_SEGMENT,
    PIECES_PER_UNIT_MAX,
    PLACES_MAX,
    UNIT_SIZES,
    Codec,
)
from holdfast.model.machine import DISK_SIZE_MAX
from holdfast.model.machine_files import FILE_NAME_BYTES_MAX, FILE_NAME_PATTERN, FILE_SIZE_MAX

HEAD_SIZE_MAX = 2 << 20
"""No head whose members keep to their own bounds is longer."""
_LENGTH_SIZE = 4
TEXT_MAX = 4096
GRANT_MAX = 8192
TRACE_MAX = 256
"""A trace context has 55 characters in its first version; later ones may have more."""
OFFERED_MAX = PIECES_PER_SEGMENT
"""Pieces that one offer may speak of."""
DIGESTS_MAX = 64 << 10
"""Digests that one message may carry (1 MiB)."""
RUNS_MAX = 64 << 10
"""Runs that one message may carry (768 KiB)."""
PIECES_MAX = DISK_SIZE_MAX // PIECE_SIZE
FILES_MAX = 1 << 12

Buffer: TypeAlias = bytes | bytearray | memoryview

_Text = Annotated[str, Meta(max_length=TEXT_MAX)]
_Piece = Annotated[int, Meta(ge=0, le=PIECES_MAX)]
_Size = Annotated[int, Meta(ge=512, le=DISK_SIZE_MAX, multiple_of=512)]
_Bytes = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
_Crc = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Seconds = Annotated[float, Meta(ge=0)]
_Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Offered = Annotated[int, Meta(ge=1, le=OFFERED_MAX)]
_Digests = Annotated[int, Meta(ge=1, le=DIGESTS_MAX)]
_Runs = Annotated[int, Meta(ge=0, le=RUNS_MAX)]
_Packed = Annotated[int, Meta(ge=1, le=PIECES_PER_UNIT_MAX)]
_UnitNumber = Annotated[int, Meta(ge=0, lt=PLACES_MAX)]
_Place = Annotated[int, Meta(ge=0, lt=PLACES_MAX)]
_File = Annotated[int, Meta(ge=0, lt=FILES_MAX)]


class Head(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The head of a message; a number says of which kind it is."""


# ---------------------------------------------------------------------------------------------------- backup, asked


class OpenDisk(Head, frozen=True, kw_only=True, tag=1):
    """Begin the work that a grant allows: `DiskOpened` or `StoredOpened` follows."""

    grant: Annotated[str, Meta(min_length=2, max_length=GRANT_MAX)]
    """As the repository's worker issued it; the session is its digest."""
    lies_at: _Text = ""
    """Where the source of a disk to be written lies now; empty where it never moves."""
    trace: Annotated[str, Meta(max_length=TRACE_MAX)] = ""
    """The `traceparent` of W3C Trace Context that the session is a part of; empty without a trace."""


class DigestsOf(Head, frozen=True, kw_only=True, tag=2):
    """Ask for digests: of the parent point when writing, of the disk when reading. `Digests` follows."""

    first: _Piece
    count: _Digests


class Offer(Head, frozen=True, kw_only=True, tag=3):
    """Say what the next pieces hold; ask which bytes are wanted. Body: their digests."""

    first: _Piece
    count: _Offered


class Keep(Head, frozen=True, kw_only=True, tag=4):
    """Leave the pieces up to ``until`` as at the parent point."""

    until: _Piece


class Zero(Head, frozen=True, kw_only=True, tag=5):
    """Make pieces zeros; those between the pieces before and ``first`` stay as at the parent point."""

    first: _Piece
    until: _Piece


class Unit(Head, frozen=True, kw_only=True, tag=6):
    """Store wanted pieces, in the order in which they were wanted.

    Body: piece numbers (4 bytes each), their digests (16 each), the packed bytes.
    """

    number: _UnitNumber
    """Of the unit in its file, by the `place` that `Wanted` gave."""
    count: _Packed
    codec: Codec
    body_crc: _Crc
    """CRC-32 of the pieces before they were compressed."""


class Describe(Head, frozen=True, kw_only=True, tag=7):
    """Say in words how the disk is read and why, and at its end what the point lacks of it."""

    detail: _Text
    left_out: LeftOut | None = None
    """As the chain file has it; nil leaves it as it was said last."""


class Finish(Head, frozen=True, kw_only=True, tag=8):
    """Make the finished disk durable; `Standing` and `Finished` follow."""


class KeptFile(Head, frozen=True, kw_only=True, tag=10):
    """A machine file of the point, to be kept or as it is kept. Body: its bytes."""

    name: Annotated[str, Meta(pattern=FILE_NAME_PATTERN, max_length=FILE_NAME_BYTES_MAX)]


class LostFile(Head, frozen=True, kw_only=True, tag=11):
    """A machine file of the point that cannot be read, and why."""

    name: Annotated[str, Meta(pattern=FILE_NAME_PATTERN, max_length=FILE_NAME_BYTES_MAX)]
    reason: _Text


class Cancel(Head, frozen=True, kw_only=True, tag=9):
    """Stop; what was committed stays."""

    reason: _Text = ""


# ---------------------------------------------------------------------------------------------------- backup, answered


class DiskOpened(Head, frozen=True, kw_only=True, tag=33):
    """The disk can be written; `Standing` says where to go on."""

    machine: _Text
    size_bytes: _Size
    change_id: _Text | None
    """Of the state that the point was begun for."""
    unit_size: int
    """One of the unit sizes of the chain file."""
    digest_key: _Key
    parent_size_bytes: _Size | None
    """Of the disk at the parent point; None when there is none."""
    parent_change_id: _Text | None
    """Of the state that the parent point was made of; nil when there is none."""
    at_rest: bool
    """Whether the machine was switched off."""
    parent_left_out: LeftOut | None
    """What the parent point lacks of the disk."""
    moves: Annotated[int, Meta(ge=0, lt=1 << 16)] = 0
    """How often it was begun again because its source had moved."""


class Digests(Head, frozen=True, kw_only=True, tag=34):
    """Body: digests of consecutive pieces, those behind the end being zeros."""

    first: _Piece
    count: _Digests


class Wanted(Head, frozen=True, kw_only=True, tag=35):
    """Which pieces of an offer are to be sent. Body: a bit for each, the lowest bit of the first byte first."""

    first: _Piece
    count: _Offered
    place: _Place
    """Where the first wanted piece goes: unit number x pieces in a unit + slot."""


class Standing(Head, frozen=True, kw_only=True, tag=36):
    """How far the disk is. Said after each commit, and about once a second."""

    taken: _Piece
    """The first piece that is not in the restore point yet."""
    committed: _Piece
    """The first piece that is not durable yet."""
    stored_bytes: _Bytes
    """Of units that this session stored, packed and sealed."""
    transferred_bytes: _Bytes
    """Of packed bytes that came in this session."""
    read_bytes: _Bytes
    """Of pieces that were offered in this session."""
    resent_bytes: _Bytes
    """Of them, what an earlier attempt had sent and not committed."""
    seal_s: _Seconds
    """Time that threads spent decoding, comparing and encrypting."""
    target_s: _Seconds
    """Time spent writing."""
    commit_wait_s: _Seconds
    """Time spent waiting for commits."""
    busy_s: _Seconds | None = None
    """For how long storing was busy so far, with any number of threads; nil from one that does not count it."""
    throttled_s: _Seconds = 0.0
    """For how long a limit held storing up so far."""


class Finished(Head, frozen=True, kw_only=True, tag=37):
    """The disk is done and durable."""


class Failure(Head, frozen=True, kw_only=True, tag=38):
    """The work cannot go on; nothing follows."""

    code: Annotated[str, Meta(max_length=64, pattern="^[a-z][a-z-]*$")]
    message: _Text
    hint: _Text


class Paced(Head, frozen=True, kw_only=True, tag=39):
    """How fast the disk may go from now on: a share of what all disks may. Sent again when it changes.

    Units that the proxy sends keep to it. Those that the repository sends do so already, and it says once a second how
    long they have waited.
    """

    rate_bytes_s: Annotated[float, Meta(ge=1)] | None = None
    """Of packed units, in bytes per second; nil is without limit."""
    because: _Text = ""
    """The limit that it is a share of, in words."""
    waited_s: _Seconds = 0.0
    """For which units of the repository have waited, in all."""


# ---------------------------------------------------------------------------------------------------- restore


class RunsOf(Head, frozen=True, kw_only=True, tag=66):
    """Ask where pieces are."""

    first: _Piece
    count: Annotated[int, Meta(ge=1, le=PIECES_MAX)]


class GetUnit(Head, frozen=True, kw_only=True, tag=67):
    """Ask for a stored unit."""

    file: _File
    number: _UnitNumber


class StoredOpened(Head, frozen=True, kw_only=True, tag=97):
    """The disk can be read."""

    machine: _Text
    size_bytes: _Size
    change_id: _Text | None
    """Of the state that the point was made of."""
    is_doubted: bool
    """Whether a point behind this one found that change tracking leaves changes of the disk out."""
    pieces_per_unit: Annotated[tuple[_Packed, ...], Meta(max_length=FILES_MAX)]
    """Of the files that hold the disk's pieces, by their index."""
    digest_key: _Key
    left_out: LeftOut | None = None
    """What the point lacks of the disk."""


class Runs(Head, frozen=True, kw_only=True, tag=98):
    """Where consecutive pieces are, without gaps; at most what was asked for. Body: 12 bytes for each run."""

    first: _Piece
    count: _Runs


class StoredUnit(Head, frozen=True, kw_only=True, tag=99):
    """A unit, decrypted and not decoded. Body: digests of its places (16 bytes each), the packed bytes."""

    file: _File
    number: _UnitNumber
    count: _Packed
    codec: Codec
    busy_s: _Seconds = 0.0
    """For how long reading was busy so far, with any number of threads."""
    throttled_s: _Seconds = 0.0
    """For how long a limit held reading up so far."""


AnyHead: TypeAlias = (
    OpenDisk | DigestsOf | Offer | Keep | Zero | Unit | Describe | Finish | Cancel | KeptFile | LostFile
    | DiskOpened | Digests | Wanted | Standing | Finished | Failure | Paced
    | RunsOf | GetUnit | StoredOpened | Runs | StoredUnit
)  # fmt: skip

RUN_SIZE = 12
PIECE_NUMBER_SIZE = 4
BODY_SIZE: dict[type[Head], Callable[..., tuple[int, int]]] = {
    Offer: lambda head: _exactly(head.count * DIGEST_SIZE),
    Digests: lambda head: _exactly(head.count * DIGEST_SIZE),
    KeptFile: lambda head: (0, FILE_SIZE_MAX),
    Wanted: lambda head: _exactly(-(-head.count // 8)),
    Runs: lambda head: _exactly(head.count * RUN_SIZE),
    Unit: lambda head: _packed(head.count, PIECE_NUMBER_SIZE + DIGEST_SIZE),
    StoredUnit: lambda head: _packed(head.count, DIGEST_SIZE),
}
"""The least and the most bytes of the body of those that have one."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[AnyHead] = msgspec.msgpack.Decoder(AnyHead)


def encode_message(head: AnyHead, *body: Buffer) -> list[Buffer]:
    """Return the buffers of a message, to be sent one behind the other; those of the body as they are."""
    encoded = _ENCODER.encode(head)
    if len(encoded) > HEAD_SIZE_MAX:
        raise ProtocolError(f"{type(head).__name__} has a head of {len(encoded)} bytes, {HEAD_SIZE_MAX} are allowed")
    _check_head(head)
    _check_body(head, sum(map(len, body)))
    return [len(encoded).to_bytes(_LENGTH_SIZE, "little") + encoded, *body]


def decode_message(payload: Buffer) -> tuple[AnyHead, memoryview]:
    """Return head and body of a message; the body is a part of ``payload``. Raises `ProtocolError`."""
    view = memoryview(payload)
    size = int.from_bytes(view[:_LENGTH_SIZE], "little")
    end = _LENGTH_SIZE + size
    if size > HEAD_SIZE_MAX or end > len(view):
        raise ProtocolError(f"message of {len(view)} bytes states a head of {size}")
    try:
        head = _DECODER.decode(view[_LENGTH_SIZE:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"head of a message cannot be read: {error}") from error
    _check_head(head)
    _check_body(head, len(view) - end)
    return head, view[end:]


def pack_bitmap(indexes: Sequence[int], count: int) -> bytes:
    """Return the body of `Wanted`."""
    bits = 0
    for index in indexes:
        bits |= 1 << index
    return bits.to_bytes(-(-count // 8), "little")


def unpack_bitmap(body: Buffer, count: int) -> list[int]:
    """Return the wanted indexes. Raises `ProtocolError` for a bit behind the last."""
    bits = int.from_bytes(body, "little")
    if bits >> count:
        raise ProtocolError(f"bitmap of {count} pieces has bits behind them")
    return [index for index in range(count) if bits >> index & 1]


def failure(error: HoldfastError) -> Failure:
    """Return an error as it is told to the other side; long texts are cut."""
    return Failure(code=error.code, message=error.message[:TEXT_MAX], hint=error.hint[:TEXT_MAX])


def failed(told: Failure) -> HoldfastError:
    """Return the error that the other side told; of a code this version does not know, the root of the tree."""
    found = error_class(told.code) or HoldfastError
    return found(told.message, hint=told.hint)


def _check_head(head: AnyHead) -> None:
    if isinstance(head, DiskOpened) and head.unit_size not in UNIT_SIZES:
        raise ProtocolError(f"unit size {head.unit_size} is none of the chain file")


def _check_body(head: AnyHead, size: int) -> None:
    sizes = BODY_SIZE.get(type(head))
    least, most = (0, 0) if sizes is None else sizes(head)
    if not least <= size <= most:
        raise ProtocolError(f"{type(head).__name__} has a body of {size} bytes, {least} to {most} are allowed")


def _exactly(size: int) -> tuple[int, int]:
    return size, size


def _packed(count: int, each: int) -> tuple[int, int]:
    # Packed bytes are never longer than what they were made of.
    return count * each + 1, count * (each + PIECE_SIZE)
