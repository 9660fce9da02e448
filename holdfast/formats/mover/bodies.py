"""The bodies of bulk messages: columns of fixed width, and packed bytes that are never copied."""

import struct
from collections.abc import Iterator, Sequence

import msgspec

from holdfast.errors import ProtocolError
from holdfast.formats.magic import DIGEST_SIZE
from holdfast.formats.mover.messages import (
    FILES_MAX,
    PIECE_NUMBER_SIZE,
    PIECES_MAX,
    RUN_SIZE,
    Buffer,
    Runs,
    StoredUnit,
    Unit,
)

_RUN = struct.Struct("<III")
_ZEROS = 0xFFFFFFFF


class Run(msgspec.Struct, frozen=True):
    """Consecutive pieces at consecutive places of a file, which is named by its index; None for zeros."""

    count: int
    file: int | None
    place: int


def pack_pieces(pieces: Sequence[int], digests: Sequence[bytes]) -> bytes:
    """Return what stands before the packed bytes in the body of `Unit`."""
    return struct.pack(f"<{len(pieces)}I", *pieces) + b"".join(digests)


def unpack_unit(head: Unit, body: memoryview) -> tuple[list[int], list[bytes], memoryview]:
    """Return piece numbers, digests and packed bytes of a `Unit`. Raises `ProtocolError`."""
    at = head.count * PIECE_NUMBER_SIZE
    pieces = [number for (number,) in struct.iter_unpack("<I", body[:at])]
    if max(pieces) >= PIECES_MAX:
        raise ProtocolError(f"unit {head.number} names piece {max(pieces)}")
    digests, packed = _digests(body[at:], head.count)
    return pieces, digests, packed


def unpack_stored_unit(head: StoredUnit, body: memoryview) -> tuple[list[bytes], memoryview]:
    """Return digests and packed bytes of a `StoredUnit`."""
    return _digests(body, head.count)


def unpack_digests(body: Buffer) -> list[bytes]:
    """Return the digests in the body of `Digests` or `Offer`."""
    data = bytes(body)
    return [data[at : at + DIGEST_SIZE] for at in range(0, len(data), DIGEST_SIZE)]


def pack_runs(runs: Sequence[Run]) -> bytes:
    """Return the body of `Runs`."""
    return b"".join(_RUN.pack(run.count, _ZEROS if run.file is None else run.file, run.place) for run in runs)


def unpack_runs(head: Runs, body: memoryview) -> Iterator[Run]:
    """Yield the runs in the body of `Runs`. Raises `ProtocolError`."""
    piece = head.first
    for count, file, place in _RUN.iter_unpack(body[: head.count * RUN_SIZE]):
        piece += count
        if not count or piece > PIECES_MAX or (file >= FILES_MAX and file != _ZEROS):
            raise ProtocolError(f"run of {count} pieces before piece {piece} in file {file}")
        yield Run(count, None if file == _ZEROS else file, place)


def _digests(body: memoryview, count: int) -> tuple[list[bytes], memoryview]:
    at = count * DIGEST_SIZE
    return unpack_digests(body[:at]), body[at:]
