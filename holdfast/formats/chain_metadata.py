"""The chain metadata file (docs/formats/chain-metadata.md)."""

import struct
import zlib
from datetime import datetime
from typing import Final

import msgspec
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown
from holdfast.formats.keys import ChainKeys, KeyEnvelope
from holdfast.formats.magic import FORMAT_VERSION, METADATA_MAGIC, Cipher

_HEAD = struct.Struct("<8sHHB3x16s16s16sIII12s48s")
_TAIL = struct.Struct("<II")
_BODY_AT = _HEAD.size + _TAIL.size
_SEAL_SIZE = 32
_NONCE = bytes(12)


class MetadataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A chain file as the metadata lists it."""

    name: str
    file: str
    kind: str
    generation: int
    size: int
    holds: tuple[int, int]
    complete: bool


class MetadataPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A restore point as the metadata lists it."""

    number: int
    id: str
    file: str
    machine_id: str
    machine_name: str
    created: datetime
    complete: bool
    root: str | None


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be removed on purpose, so that nobody misses it should the removal be interrupted."""

    files: tuple[str, ...] = ()
    """Ids."""
    points: tuple[int, ...] = ()


class ChainMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The files and points of a chain. ``sequence`` counts the writings."""

    format: int = FORMAT_VERSION
    chain: str
    sequence: int
    files: tuple[MetadataFile, ...] = ()
    points: tuple[MetadataPoint, ...] = ()
    leaving: Leaving | msgspec.UnsetType = msgspec.UNSET


_CHAIN_METADATA_DECODER: Final = msgspec.json.Decoder(ChainMetadata)


def encode_metadata(metadata: ChainMetadata, keys: ChainKeys, key_id: bytes) -> bytes:
    """Return the bytes of the file; ``key_id`` is 16 fresh random bytes."""
    envelope = keys.envelope
    head = _HEAD.pack(
        METADATA_MAGIC,
        FORMAT_VERSION,
        FORMAT_VERSION,
        keys.cipher,
        keys.chain_id,
        key_id,
        envelope.salt,
        envelope.memory_kib,
        envelope.iterations,
        envelope.lanes,
        envelope.wrap_nonce,
        envelope.wrapped_key,
    )
    body = msgspec.json.encode(metadata)
    if keys.cipher is Cipher.AES_256_GCM:
        body = AESGCM(keys.metadata_key(key_id)).encrypt(_NONCE, body, head)
    length = len(body).to_bytes(4, "little")
    crc = zlib.crc32(body, zlib.crc32(head + length)).to_bytes(4, "little")
    whole = head + length + crc + body
    return whole + blake3(whole, key=keys.metadata_seal_key).digest()


def metadata_envelope(data: bytes) -> tuple[bytes, KeyEnvelope]:
    """Return chain id and key envelope, which lead to the keys `decode_metadata` needs.

    Raises `FormatUnknown`, `FormatTooNew` or `FileDamaged`.
    """
    if data[:8] != METADATA_MAGIC:
        raise FormatUnknown("no chain metadata: the magic number is missing")
    if len(data) < _BODY_AT + _SEAL_SIZE:
        raise FileDamaged("chain metadata is cut short")
    fields = _HEAD.unpack_from(data)
    length, crc = _TAIL.unpack_from(data, _HEAD.size)
    body = data[_BODY_AT : _BODY_AT + length]
    if len(data) != _BODY_AT + length + _SEAL_SIZE or zlib.crc32(body, zlib.crc32(data[: _HEAD.size + 4])) != crc:
        raise FileDamaged("chain metadata does not match its checksum")
    if fields[2] > FORMAT_VERSION:
        raise FormatTooNew(f"chain metadata needs a reader of version {fields[2]}, this one knows {FORMAT_VERSION}")
    if fields[3] not in Cipher._value2member_map_:
        raise FileDamaged(f"chain metadata states unknown cipher {fields[3]}")
    _, _, _, cipher, chain_id, _, salt, memory_kib, iterations, lanes, wrap_nonce, wrapped_key = fields
    envelope = KeyEnvelope(
        cipher=Cipher(cipher),
        salt=salt,
        memory_kib=memory_kib,
        iterations=iterations,
        lanes=lanes,
        wrap_nonce=wrap_nonce,
        wrapped_key=wrapped_key,
    )
    return chain_id, envelope


def decode_metadata(data: bytes, keys: ChainKeys) -> ChainMetadata:
    """Return the metadata; ``data`` has passed `metadata_envelope`. Raises `FileDamaged`."""
    if blake3(data[:-_SEAL_SIZE], key=keys.metadata_seal_key).digest() != data[-_SEAL_SIZE:]:
        raise FileDamaged("chain metadata seal does not match")
    head, body = data[: _HEAD.size], data[_BODY_AT:-_SEAL_SIZE]
    try:
        if keys.cipher is Cipher.AES_256_GCM:
            body = AESGCM(keys.metadata_key(data[32:48])).decrypt(_NONCE, body, head)
        return _CHAIN_METADATA_DECODER.decode(body)
    except (InvalidTag, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FileDamaged(f"chain metadata cannot be read: {error}") from error
