"""The superblock (docs/formats/chain-file.md section 3)."""

import struct
import zlib
from typing import Any

import msgspec
from blake3 import blake3

from holdfast.errors import FileDamaged, FormatTooNew, FormatUnknown
from holdfast.formats.keys import ChainKeys, KeyEnvelope, cost_of, is_cost_acceptable
from holdfast.formats.magic import (
    ALIGNMENT,
    CHAIN_MAGIC,
    FORMAT_VERSION,
    RECORDS_START,
    SUPERBLOCK_SIZE,
    UNIT_SIZES,
    Cipher,
    FileKind,
    FileState,
)
from holdfast.formats.pages import Ref

_BODY = struct.Struct("<8sHHBBBBQQ16s16s16sQII16s16sIII12s48s")
_CRC_AT = 4060
_SEAL_AT = 4064


class Superblock(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a chain file as of one commit."""

    kind: FileKind
    unit_size: int
    state: FileState
    generation: int
    end: int
    chain_id: bytes
    file_id: bytes
    key_id: bytes
    root: Ref
    envelope: KeyEnvelope

    @property
    def slot_offset(self) -> int:
        """Return where in the file this generation is written."""
        return self.generation % 2 * SUPERBLOCK_SIZE


def pack_superblock(block: Superblock, keys: ChainKeys) -> bytes:
    """Return the 4096 bytes of ``block``, sealed."""
    envelope = block.envelope
    body = _BODY.pack(
        CHAIN_MAGIC,
        FORMAT_VERSION,
        FORMAT_VERSION,
        block.kind,
        envelope.cipher,
        block.unit_size.bit_length() - 1,
        block.state,
        block.generation,
        block.end,
        block.chain_id,
        block.file_id,
        block.key_id,
        block.root.offset,
        block.root.length,
        0,
        block.root.digest,
        envelope.salt,
        envelope.memory_kib,
        envelope.iterations,
        envelope.lanes,
        envelope.wrap_nonce,
        envelope.wrapped_key,
    )
    body += bytes(_CRC_AT - len(body))
    body += zlib.crc32(body).to_bytes(4, "little")
    return body + blake3(body, key=keys.seal_key(block.file_id)).digest()


def unpack_superblock(data: bytes) -> Superblock:
    """Return the superblock in ``data`` without checking its seal (that needs the keys, which need the superblock).

    Raises `FormatUnknown` (not ours), `FormatTooNew`, or `FileDamaged`.
    """
    if len(data) != SUPERBLOCK_SIZE or data[:8] != CHAIN_MAGIC:
        raise FormatUnknown("no superblock: the magic number is missing")
    if zlib.crc32(data[:_CRC_AT]).to_bytes(4, "little") != data[_CRC_AT:_SEAL_AT]:
        raise FileDamaged("superblock checksum does not match")
    fields = _BODY.unpack_from(data)
    if fields[2] > FORMAT_VERSION:
        raise FormatTooNew(f"file needs a reader of format version {fields[2]}, this one knows {FORMAT_VERSION}")
    try:
        return _from_fields(fields)
    except ValueError as error:
        raise FileDamaged(f"superblock states an impossible value: {error}") from error


def is_sealed(data: bytes, file_id: bytes, keys: ChainKeys) -> bool:
    """Return whether the seal of a superblock is right."""
    return blake3(data[:_SEAL_AT], key=keys.seal_key(file_id)).digest() == data[_SEAL_AT:]


def _from_fields(fields: tuple[Any, ...]) -> Superblock:
    (_, _, _, kind, cipher, shift, state, generation, end, chain_id, file_id, key_id, root_offset, root_length, _,
     root_digest, salt, memory_kib, iterations, lanes, wrap_nonce, wrapped_key) = fields  # fmt: skip
    envelope = KeyEnvelope(
        cipher=Cipher(cipher),
        salt=salt,
        memory_kib=memory_kib,
        iterations=iterations,
        lanes=lanes,
        wrap_nonce=wrap_nonce,
        wrapped_key=wrapped_key,
    )
    block = Superblock(
        kind=FileKind(kind),
        unit_size=1 << shift,
        state=FileState(state),
        generation=generation,
        end=end,
        chain_id=chain_id,
        file_id=file_id,
        key_id=key_id,
        root=Ref(offset=root_offset, length=root_length, digest=root_digest),
        envelope=envelope,
    )
    if block.envelope.cipher is not Cipher.NONE and not is_cost_acceptable(cost_of(block.envelope)):
        raise ValueError("passphrase costs outside the limits")
    if block.unit_size not in UNIT_SIZES:
        raise ValueError(f"unit size {block.unit_size}")
    if block.end % ALIGNMENT or block.end < RECORDS_START:
        raise ValueError(f"end {block.end}")
    if not block.generation:
        raise ValueError("generation 0")
    return block
