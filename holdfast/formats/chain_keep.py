"""The file that says how long the points of a chain are kept (docs/formats/chain-keep.md)."""

from typing import Final

import msgspec
from blake3 import blake3

from holdfast.errors import FileDamaged, FormatTooNew
from holdfast.formats.keys import ChainKeys
from holdfast.model.retention import PointNote

KEEP_VERSION = 2
_CONTEXT = b"holdfast chain.keep"


_WITHOUT_OWNER = 1


class NotedOwner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose chain it is now, where that is not the machine its points name; true in the machine folder that is named.

    So the one rename of that folder makes it true, for all chains of a machine at once.
    """

    folder: str
    machine_id: str
    machine_name: str
    named: int = 0
    """Points up to this number were made under another name."""
    mapped: int = 0
    """Points up to this number were made of another machine: their change ids mean nothing to this one."""


class ChainKeep(msgspec.Struct, frozen=True, kw_only=True):
    """Notes of the points of a chain. ``sequence`` counts the writings."""

    format: int = _WITHOUT_OWNER
    chain: str
    """Id of the chain, hexadecimal."""
    sequence: int = 0
    points: tuple[PointNote, ...] = ()
    owner: NotedOwner | msgspec.UnsetType = msgspec.UNSET

    def owned_by(self, owner: NotedOwner) -> "ChainKeep":
        """Return the same with another owner, which a reader that knows no owners refuses."""
        return msgspec.structs.replace(self, format=KEEP_VERSION, sequence=self.sequence + 1, owner=owner)


_CHAIN_KEEP_DECODER: Final = msgspec.json.Decoder(ChainKeep)


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    keep: msgspec.Raw
    seal: str


_SEALED_DECODER: Final = msgspec.json.Decoder(_Sealed)


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    format: int


_HEAD_DECODER: Final = msgspec.json.Decoder(_Head)


def encode_keep(keep: ChainKeep, keys: ChainKeys) -> bytes:
    """Return the bytes of the file."""
    raw = msgspec.json.encode(keep)
    return msgspec.json.encode(_Sealed(keep=msgspec.Raw(raw), seal=_seal(raw, keys))) + b"\n"


def decode_keep(data: bytes, keys: ChainKeys) -> ChainKeep:
    """Return the notes. Raises `FileDamaged`, also for those of another chain, and `FormatTooNew`."""
    try:
        sealed = _SEALED_DECODER.decode(data)
        raw = bytes(sealed.keep)
        if sealed.seal != _seal(raw, keys):
            raise FileDamaged("the seal does not match")
        version = _HEAD_DECODER.decode(raw).format
        if version > KEEP_VERSION:
            raise FormatTooNew(f"needs a reader of version {version}, this one knows {KEEP_VERSION}")
        keep = _CHAIN_KEEP_DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileDamaged(f"cannot be read: {error}") from error
    if keep.chain != keys.chain_id.hex():
        raise FileDamaged(f"belongs to chain {keep.chain}")
    return keep


def peek_keep(data: bytes) -> ChainKeep | None:
    """Return what the file says without a look at its seal; None when it cannot be read.

    Only to find out which key is to be tried: what stands there may have been written by anybody.
    """
    try:
        return _CHAIN_KEEP_DECODER.decode(_SEALED_DECODER.decode(data).keep)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _seal(raw: bytes, keys: ChainKeys) -> str:
    return blake3(_CONTEXT + raw, key=keys.metadata_seal_key).hexdigest()
