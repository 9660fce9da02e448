"""Records: the self-contained envelope of units and pages (docs/formats/chain-file.md section 4)."""

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from isal.isal_zlib import crc32

from holdfast.errors import DataDamaged, EncodingFailed, FormatUnknown
from holdfast.formats.codec import compress, decompress
from holdfast.formats.magic import (
    ALIGNMENT,
    CONTENTS_SIZE_MAX,
    PIECE_SIZE,
    PIECES_PER_UNIT_MAX,
    RECORD_MAGIC,
    Cipher,
    Codec,
    RecordKind,
)
from holdfast.model.compression import Compression

HEADER_SIZE = 80
PIECE_ENTRY_SIZE = 28
_TAG_SIZE = 16
_HEADER = struct.Struct("<8sBBBBIIIQ16s16sIII")  # up to, not including, the header checksum
_PIECE_ENTRY = struct.Struct("<8sI16s")
_NOTE = struct.Struct("<8sII16s")
_NONCE = struct.Struct("<QI")
_ASSOCIATED_SIZE = 68

Buffer: TypeAlias = bytes | bytearray | memoryview


class Stamp(msgspec.Struct, frozen=True):
    """Which record this is: the nonce and the origin. A pair (generation, number) is used once under a key id."""

    generation: int
    number: int
    point: int
    file_id: bytes
    key_id: bytes


class RecordHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The fixed part of a record."""

    kind: int
    codec: int
    cipher: Cipher
    pieces: int
    stored: int
    raw: int
    stamp: Stamp
    payload_crc: int

    @property
    def length(self) -> int:
        """Return header and payload, without the gap behind them."""
        return HEADER_SIZE + self.stored


class PieceEntry(msgspec.Struct, frozen=True):
    """What a unit says of one of its pieces."""

    disk_tag: bytes
    piece: int
    digest: bytes


class Note(msgspec.Struct, frozen=True):
    """Pieces that a point wrote without storing bytes: zeros, or a digest that the file holds already."""

    disk_tag: bytes
    piece: int
    count: int
    digest: bytes


class RecordSealer:
    """Encodes records under one record key. Safe to use from several threads."""

    def __init__(self, cipher: Cipher, record_key: bytes) -> None:
        self.cipher = cipher
        self._aead = AESGCM(record_key) if cipher is Cipher.AES_256_GCM else None

    def unit(self, stamp: Stamp, entries: Sequence[PieceEntry], codec: Codec, packed: Buffer) -> list[Buffer]:
        """Return the buffers of a unit record, to be written one behind the other; the last is the gap."""
        listing = b"".join(_PIECE_ENTRY.pack(e.disk_tag, e.piece, e.digest) for e in entries)
        raw = len(entries) * PIECE_SIZE
        return self._seal(RecordKind.UNIT, stamp, (codec, len(entries), raw), [listing, packed])

    def page(self, stamp: Stamp, body: bytes, kind: RecordKind = RecordKind.PAGE) -> list[Buffer]:
        """Return the buffers of a page record, or of a notes record.

        Raises `EncodingFailed` when the body does not come back from what it was compressed to.
        """
        codec, packed = compress(body, Compression.ZSTD_1)
        if codec is not Codec.NONE and not _comes_back(codec, packed, body):
            raise EncodingFailed(f"a page of {len(body)} bytes of point {stamp.point} does not decode to its bytes")
        return self._seal(kind, stamp, (codec, 0, len(body)), [packed])

    def _seal(self, kind: RecordKind, stamp: Stamp, shape: tuple[Codec, int, int], parts: list[Buffer]) -> list[Buffer]:
        codec, pieces, raw = shape
        stored = sum(len(part) for part in parts) + (_TAG_SIZE if self._aead else 0)
        front = _HEADER.pack(
            RECORD_MAGIC, kind, codec, self.cipher, pieces, stored, raw, stamp.number, stamp.generation,
            stamp.file_id, stamp.key_id, stamp.point, 0, 0,
        )[:_ASSOCIATED_SIZE]  # fmt: skip
        if self._aead:
            nonce = _NONCE.pack(stamp.generation, stamp.number)
            parts = [self._aead.encrypt(nonce, b"".join(parts), front)]
        crc = 0
        for part in parts:
            crc = crc32(part, crc)
        header = front + crc.to_bytes(4, "little") + bytes(4)
        header += crc32(header).to_bytes(4, "little")
        return [header, *parts, bytes(-(HEADER_SIZE + stored) % ALIGNMENT)]


def _comes_back(codec: Codec, packed: Buffer, body: bytes) -> bool:
    try:
        return decompress(codec, memoryview(packed), len(body)) == body
    except DataDamaged:
        return False


class RecordOpener:
    """Decodes records of one chain; keeps the ciphers of the keys it has met. Safe to use from several threads."""

    def __init__(self, cipher: Cipher, record_key: Callable[[bytes], bytes]) -> None:
        self._cipher_kind = cipher
        self._record_key = record_key
        self._ciphers: dict[bytes, AESGCM] = {}

    def payload(self, data: Buffer) -> tuple[RecordHeader, memoryview]:
        """Check a record from its first byte and return header and decrypted payload. Raises `DataDamaged`."""
        view = memoryview(data)
        header = unpack_header(view[:HEADER_SIZE])
        if len(view) < header.length:
            raise DataDamaged(f"record of {header.length} bytes ends after {len(view)}")
        return header, self._plain(header, view[:_ASSOCIATED_SIZE], view[HEADER_SIZE : header.length])

    def _plain(self, header: RecordHeader, front: Buffer, stored: memoryview) -> memoryview:
        """Return the payload, checked and decrypted."""
        if crc32(stored) != header.payload_crc:
            raise DataDamaged("record payload does not match its checksum")
        if header.cipher is not self._cipher_kind:
            raise DataDamaged(f"record states cipher {header.cipher} in a chain of cipher {self._cipher_kind}")
        if header.cipher is Cipher.NONE:
            return stored
        stamp = header.stamp
        try:
            plain = self._cipher(stamp.key_id).decrypt(_NONCE.pack(stamp.generation, stamp.number), stored, front)
        except InvalidTag as error:
            raise DataDamaged("record does not authenticate") from error
        return memoryview(plain)

    def page(self, data: Buffer, kind: RecordKind = RecordKind.PAGE) -> bytes:
        """Return the body of a page record, or of a notes record."""
        header, payload = self.payload(data)
        if header.kind != kind:
            raise DataDamaged(f"record is of kind {header.kind} instead of {kind}")
        if header.pieces:
            raise DataDamaged(f"record of kind {kind} states {header.pieces} pieces")
        return bytes(decompress(codec_of(header), payload, header.raw))

    def unit(self, data: Buffer) -> tuple[list[PieceEntry], bytes | memoryview]:
        """Return the piece list and the body of a unit record."""
        return _unit(*self.payload(data))

    def sealed_unit(self, record: Sequence[Buffer]) -> tuple[list[PieceEntry], bytes | memoryview]:
        """Return the same of a record as it comes from `RecordSealer.unit`, without copying it into one piece."""
        front, *parts, _ = record
        stored = memoryview(parts[0] if len(parts) == 1 else b"".join(parts))
        header = unpack_header(front)
        if len(stored) != header.stored:
            raise DataDamaged(f"record states a payload of {header.stored} bytes and has {len(stored)}")
        return _unit(header, self._plain(header, memoryview(front)[:_ASSOCIATED_SIZE], stored))

    def _cipher(self, key_id: bytes) -> AESGCM:
        found = self._ciphers.get(key_id)
        if found is None:
            found = self._ciphers[key_id] = AESGCM(self._record_key(key_id))
        return found


def _unit(header: RecordHeader, payload: memoryview) -> tuple[list[PieceEntry], bytes | memoryview]:
    entries = unit_entries(header, payload)
    return entries, decompress(codec_of(header), payload[header.pieces * PIECE_ENTRY_SIZE :], header.raw)


def unit_entries(header: RecordHeader, payload: memoryview) -> list[PieceEntry]:
    """Return the piece list of a decrypted unit payload."""
    size = header.pieces * PIECE_ENTRY_SIZE
    if header.kind != RecordKind.UNIT or not 1 <= header.pieces <= PIECES_PER_UNIT_MAX or len(payload) < size:
        raise DataDamaged("record is not a unit")
    if header.raw != header.pieces * PIECE_SIZE:
        raise DataDamaged("unit states a wrong body size")
    return [PieceEntry(*fields) for fields in _PIECE_ENTRY.iter_unpack(payload[:size])]


def pack_notes(notes: Sequence[Note]) -> bytes:
    """Return the body of a notes record."""
    return b"".join(_NOTE.pack(note.disk_tag, note.piece, note.count, note.digest) for note in notes)


def unpack_notes(body: bytes) -> list[Note]:
    """Return the notes in ``body``. Raises `DataDamaged`."""
    if len(body) % _NOTE.size:
        raise DataDamaged(f"notes have {len(body)} bytes")
    return [Note(*fields) for fields in _NOTE.iter_unpack(body)]


def unpack_header(data: Buffer) -> RecordHeader:
    """Return the header in the first 80 bytes. Raises `FormatUnknown` without the magic number, `DataDamaged` else."""
    if len(data) < HEADER_SIZE or bytes(data[:8]) != RECORD_MAGIC:
        raise FormatUnknown("no record: the magic number is missing")
    if crc32(data[:76]) != int.from_bytes(data[76:80], "little"):
        raise DataDamaged("record header does not match its checksum")
    (
        _,
        kind,
        codec,
        cipher,
        pieces,
        stored,
        raw,
        number,
        generation,
        file_id,
        key_id,
        point,
        crc,
        _,
    ) = _HEADER.unpack(bytes(data[:76]))
    if cipher not in Cipher._value2member_map_ or max(stored, raw) > CONTENTS_SIZE_MAX:
        raise DataDamaged(f"record states cipher {cipher}, stored {stored} and raw {raw} bytes")
    return RecordHeader(
        kind=kind,
        codec=codec,
        cipher=Cipher(cipher),
        pieces=pieces,
        stored=stored,
        raw=raw,
        stamp=Stamp(generation, number, point, file_id, key_id),
        payload_crc=crc,
    )


def codec_of(header: RecordHeader) -> Codec:
    """Return the codec of a record. Raises `DataDamaged` for one that is unknown."""
    try:
        return Codec(header.codec)
    except ValueError as error:
        raise DataDamaged(f"record uses unknown codec {header.codec}") from error
