"""Records: what is sealed comes back, and nothing else does.

Layouts and nonces are checked against docs/formats/chain-file.md section 4, spelled out here once more.
"""

import random
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import DataDamaged, FormatUnknown
from holdfast.formats.codec import compress
from holdfast.formats.magic import CONTENTS_SIZE_MAX, PIECE_SIZE, Cipher, Codec, RecordKind
from holdfast.formats.record import (
    HEADER_SIZE,
    Note,
    PieceEntry,
    RecordHeader,
    RecordOpener,
    RecordSealer,
    Stamp,
    pack_notes,
    unit_entries,
    unpack_header,
    unpack_notes,
)
from holdfast.model.compression import Compression

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_ID, FILE_ID = b"K" * 16, b"F" * 16
KEYS = {KEY_ID: bytes(range(32)), b"L" * 16: bytes(range(1, 33))}
STAMP = Stamp(generation=0x0102030405060708, number=0x11121314, point=0x21222324, file_id=FILE_ID, key_id=KEY_ID)
ENTRIES = [PieceEntry(bytes([n]) * 8, 1000 + n, bytes([n + 1]) * 16) for n in range(3)]
RNG = random.Random(5)
BODIES = {
    Codec.NONE: RNG.randbytes(3 * PIECE_SIZE),
    Codec.LZ4: b"0123456789abcdef" * (3 * PIECE_SIZE // 16),
    Codec.ZSTD: b"0123456789abcdef" * (3 * PIECE_SIZE // 16),
}
LEVELS = {Codec.NONE: Compression.NONE, Codec.LZ4: Compression.LZ4, Codec.ZSTD: Compression.ZSTD_3}
BOTH_CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))
ALL_CODECS = pytest.mark.parametrize("codec", list(Codec))


def sealer(cipher: Cipher) -> RecordSealer:
    return RecordSealer(cipher, KEYS[KEY_ID])


def opener(cipher: Cipher) -> RecordOpener:
    return RecordOpener(cipher, lambda key_id: KEYS[key_id])


def sealed_unit(cipher: Cipher, codec: Codec, stamp: Stamp = STAMP) -> bytes:
    found, packed = compress(BODIES[codec], LEVELS[codec])
    assert found is codec
    return b"".join(sealer(cipher).unit(stamp, ENTRIES, codec, packed))


def sealed_page(cipher: Cipher, body: bytes = b"page", stamp: Stamp = STAMP) -> bytes:
    return b"".join(sealer(cipher).page(stamp, body))


def with_right_header_crc(record: bytearray) -> bytes:
    """Return the record as somebody would forge it."""
    record[76:80] = zlib.crc32(record[:76]).to_bytes(4, "little")
    return bytes(record)


def with_right_crcs(record: bytearray) -> bytes:
    stored = int.from_bytes(record[12:16], "little")
    record[68:72] = zlib.crc32(record[80 : 80 + stored]).to_bytes(4, "little")
    return with_right_header_crc(record)


def forged(record: bytes, **fields: int) -> bytes:
    """Return a record with header fields changed and right checksums."""
    places = {"kind": (8, 1), "codec": (9, 1), "cipher": (10, 1), "pieces": (11, 1), "stored": (12, 4), "raw": (16, 4)}
    changed = bytearray(record)
    for name, value in fields.items():
        offset, size = places[name]
        changed[offset : offset + size] = value.to_bytes(size, "little")
    return with_right_crcs(changed)


# ------------------------------------------------------------------------------------------------------ round trip


@BOTH_CIPHERS
@ALL_CODECS
def test_a_unit_comes_back(cipher: Cipher, codec: Codec) -> None:
    record = sealed_unit(cipher, codec)
    entries, body = opener(cipher).unit(record)
    assert (entries, bytes(body)) == (ENTRIES, BODIES[codec])


@BOTH_CIPHERS
@ALL_CODECS
def test_a_unit_can_be_checked_before_it_is_written(cipher: Cipher, codec: Codec) -> None:
    _, packed = compress(BODIES[codec], LEVELS[codec])
    entries, body = opener(cipher).sealed_unit(sealer(cipher).unit(STAMP, ENTRIES, codec, packed))
    assert (entries, bytes(body)) == (ENTRIES, BODIES[codec])


@BOTH_CIPHERS
def test_a_unit_that_went_wrong_in_memory_is_noticed_before_it_is_written(cipher: Cipher) -> None:
    front, *parts, gap = sealer(cipher).unit(STAMP, ENTRIES, Codec.NONE, BODIES[Codec.NONE])
    payload = b"".join(parts)
    for at in (0, 83, 84, 70000, len(payload) - 1):
        changed = bytearray(payload)
        changed[at] ^= 1
        with pytest.raises(DataDamaged, match=r"^record payload does not match its checksum$"):
            opener(cipher).sealed_unit([front, changed, gap])
    with pytest.raises(
        DataDamaged, match=f"^record states a payload of {len(payload)} bytes and has {len(payload) - 1}$"
    ):
        opener(cipher).sealed_unit([front, payload[:-1], gap])
    with pytest.raises(DataDamaged, match=r"^record header does not match its checksum$"):
        opener(cipher).sealed_unit([bytes(front[:20]) + b"\xff" + bytes(front[21:]), payload, gap])


@BOTH_CIPHERS
@pytest.mark.parametrize("body", [b"", b"p", bytes(16384), RNG.randbytes(70000)], ids=["empty", "1", "zeros", "noise"])
def test_a_page_comes_back(cipher: Cipher, body: bytes) -> None:
    assert opener(cipher).page(sealed_page(cipher, body)) == body


@BOTH_CIPHERS
def test_notes_come_back(cipher: Cipher) -> None:
    notes = [Note(b"t" * 8, 1, 2, bytes(16)), Note(b"u" * 8, 0xFFFFFFFE, 0xFFFFFFFF, b"d" * 16)]
    record = b"".join(sealer(cipher).page(STAMP, pack_notes(notes), RecordKind.NOTES))
    assert unpack_notes(opener(cipher).page(record, RecordKind.NOTES)) == notes


@BOTH_CIPHERS
def test_a_record_fills_whole_sectors_and_opens_without_its_gap(cipher: Cipher) -> None:
    for size in (0, 1, 4000, 4015, 4016, 4017, 4096, 9000):
        parts = sealer(cipher).page(STAMP, random.Random(size).randbytes(size))
        whole = b"".join(parts)
        assert len(whole) % 4096 == 0
        assert len(parts[-1]) < 4096
        assert not any(parts[-1])
        length = unpack_header(whole).length
        assert length == len(whole) - len(parts[-1])
        assert opener(cipher).page(whole[:length]) == opener(cipher).page(whole)


def test_compression_is_chosen_by_what_is_smaller() -> None:
    assert unpack_header(sealed_page(Cipher.NONE, bytes(16384))).codec == Codec.ZSTD
    assert unpack_header(sealed_page(Cipher.NONE, b"x")).codec == Codec.NONE


@BOTH_CIPHERS
def test_the_header_says_what_was_sealed(cipher: Cipher) -> None:
    record = sealed_unit(cipher, Codec.NONE)
    stored = 3 * 28 + 3 * PIECE_SIZE + (16 if cipher else 0)
    assert unpack_header(record) == RecordHeader(
        kind=RecordKind.UNIT,
        codec=Codec.NONE,
        cipher=cipher,
        pieces=3,
        stored=stored,
        raw=3 * PIECE_SIZE,
        stamp=STAMP,
        payload_crc=zlib.crc32(record[80 : 80 + stored]),
    )


def test_a_plain_unit_is_laid_out_as_documented() -> None:
    record = sealed_unit(Cipher.NONE, Codec.NONE)
    listed = b"".join(entry.disk_tag + struct.pack("<I", entry.piece) + entry.digest for entry in ENTRIES)
    payload = listed + BODIES[Codec.NONE]
    front = struct.pack(
        "<8s4BIIIQ", b"HFRECORD", 1, 0, 0, 3, len(payload), 3 * PIECE_SIZE, 0x11121314, STAMP.generation
    )
    front += FILE_ID + KEY_ID + struct.pack("<III", 0x21222324, zlib.crc32(payload), 0)
    header = front + struct.pack("<I", zlib.crc32(front))
    assert record[: 80 + len(payload)] == header + payload


def test_notes_are_laid_out_as_documented() -> None:
    body = pack_notes([Note(bytes(range(8)), 0x01020304, 0x05060708, bytes(range(16)))])
    assert body == bytes(range(8)) + bytes.fromhex("04030201 08070605") + bytes(range(16))
    assert pack_notes([]) == b""


@pytest.mark.parametrize("length", [1, 31, 33])
def test_notes_cut_short_are_refused(length: int) -> None:
    with pytest.raises(DataDamaged, match=f"^notes have {length} bytes$"):
        unpack_notes(bytes(length))


# ------------------------------------------------------------------------------------------------------ encryption


@ALL_CODECS
def test_the_payload_is_encrypted_as_documented(codec: Codec) -> None:
    record = sealed_unit(Cipher.AES_256_GCM, codec)
    stored = int.from_bytes(record[12:16], "little")
    nonce = struct.pack("<QI", STAMP.generation, STAMP.number)
    plain = AESGCM(KEYS[KEY_ID]).decrypt(nonce, record[80 : 80 + stored], record[:68])
    open_record = sealed_unit(Cipher.NONE, codec)
    assert plain == open_record[80 : 80 + len(plain)]
    assert plain[84:100] not in record


def test_every_generation_and_number_has_a_key_stream_of_its_own() -> None:
    stamps = [
        Stamp(generation, number, 0, FILE_ID, KEY_ID)
        for generation in (0, 1, 2, 256, 1 << 32, (1 << 64) - 1)
        for number in (0, 1, 2, 256, (1 << 32) - 1)
    ]
    ciphertexts = {sealed_page(Cipher.AES_256_GCM, b"same body" * 3, stamp)[80:107] for stamp in stamps}
    assert len(ciphertexts) == len(stamps)


def test_a_forged_header_byte_is_noticed_by_the_cipher() -> None:
    """The magic number is checked by itself; the payload checksum, which is not authenticated, by comparison."""
    record = sealed_unit(Cipher.AES_256_GCM, Codec.ZSTD)
    keys = RecordOpener(Cipher.AES_256_GCM, lambda _: KEYS[KEY_ID])
    for at in range(72):
        for bit in range(8):
            changed = bytearray(record)
            changed[at] ^= 1 << bit
            with pytest.raises((DataDamaged, FormatUnknown)):
                keys.unit(with_right_header_crc(changed))


def test_a_forged_payload_byte_is_noticed_by_the_cipher() -> None:
    record = sealed_page(Cipher.AES_256_GCM, b"body")
    for at in range(80, unpack_header(record).length):
        changed = bytearray(record)
        changed[at] ^= 1
        with pytest.raises(DataDamaged, match=r"^record does not authenticate$"):
            opener(Cipher.AES_256_GCM).page(with_right_crcs(changed))


def test_a_record_under_another_key_does_not_open() -> None:
    other = RecordOpener(Cipher.AES_256_GCM, lambda _: KEYS[b"L" * 16])
    with pytest.raises(DataDamaged, match=r"^record does not authenticate$"):
        other.page(sealed_page(Cipher.AES_256_GCM))


def test_the_key_id_chooses_the_key_and_each_key_is_asked_for_once() -> None:
    asked: list[bytes] = []

    def key(key_id: bytes) -> bytes:
        asked.append(key_id)
        return KEYS[key_id]

    other = Stamp(1, 1, 1, FILE_ID, b"L" * 16)
    records = [
        sealed_page(Cipher.AES_256_GCM, b"first"),
        b"".join(RecordSealer(Cipher.AES_256_GCM, KEYS[b"L" * 16]).page(other, b"second")),
    ]
    chain = RecordOpener(Cipher.AES_256_GCM, key)
    assert [chain.page(record) for record in records * 2] == [b"first", b"second"] * 2
    assert asked == [KEY_ID, b"L" * 16]


@BOTH_CIPHERS
def test_a_chain_takes_records_of_its_own_cipher_only(cipher: Cipher) -> None:
    other = Cipher(1 - cipher)
    message = f"^record states cipher {other} in a chain of cipher {cipher}$"
    with pytest.raises(DataDamaged, match=message):
        opener(cipher).page(sealed_page(other))


@pytest.mark.parametrize("stored", [0, 1, 15])
def test_a_payload_without_room_for_the_tag_does_not_authenticate(stored: int) -> None:
    with pytest.raises(DataDamaged, match=r"^record does not authenticate$"):
        opener(Cipher.AES_256_GCM).page(forged(sealed_page(Cipher.AES_256_GCM), stored=stored))


# ------------------------------------------------------------------------------------------------------ damage


@BOTH_CIPHERS
def test_every_flipped_bit_is_noticed(cipher: Cipher) -> None:
    record = sealed_page(cipher, b"0123456789" * 3)
    for at in range(unpack_header(record).length):
        for bit in range(8):
            changed = bytearray(record)
            changed[at] ^= 1 << bit
            with pytest.raises((DataDamaged, FormatUnknown)):
                opener(cipher).page(changed)


@BOTH_CIPHERS
def test_a_record_cut_short_is_noticed_at_every_length(cipher: Cipher) -> None:
    record = sealed_page(cipher, b"0123456789" * 3)
    for length in range(unpack_header(record).length):
        with pytest.raises((DataDamaged, FormatUnknown)):
            opener(cipher).page(record[:length])


@pytest.mark.parametrize("data", [b"", b"HFRECORD", bytes(80), b"HFCHAIN1" + bytes(72), bytes(4096)])
def test_what_has_no_magic_number_is_no_record(data: bytes) -> None:
    with pytest.raises(FormatUnknown, match=r"the magic number is missing$"):
        unpack_header(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"cipher": 2},
        {"cipher": 255},
        {"stored": CONTENTS_SIZE_MAX + 1},
        {"stored": 0xFFFFFFFF},
        {"raw": CONTENTS_SIZE_MAX + 1},
        {"raw": 0xFFFFFFFF},
    ],
)
def test_an_absurd_header_is_refused_before_its_payload_is_looked_at(fields: dict[str, int]) -> None:
    header = forged(sealed_page(Cipher.NONE), **fields)[:HEADER_SIZE]
    with pytest.raises(DataDamaged, match=r"^record states cipher"):
        unpack_header(header)


@pytest.mark.parametrize("codec", [3, 255])
@pytest.mark.parametrize("kind", ["unit", "page"])
def test_an_unknown_codec_makes_just_the_record_unreadable(kind: str, codec: int) -> None:
    plain = opener(Cipher.NONE)
    record = sealed_unit(Cipher.NONE, Codec.NONE) if kind == "unit" else sealed_page(Cipher.NONE)
    changed = forged(record, codec=codec)
    read: Callable[[bytes], object] = plain.unit if kind == "unit" else plain.page
    with pytest.raises(DataDamaged, match=f"^record uses unknown codec {codec}$"):
        read(changed)
    assert unpack_header(changed).codec == codec


def test_an_unknown_kind_has_a_header_that_a_scan_can_skip() -> None:
    changed = forged(sealed_page(Cipher.NONE), kind=9)
    assert unpack_header(changed).length == unpack_header(sealed_page(Cipher.NONE)).length
    with pytest.raises(DataDamaged, match=r"^record is of kind 9 instead of 2$"):
        opener(Cipher.NONE).page(changed)


def test_units_pages_and_notes_are_not_taken_for_each_other() -> None:
    plain = opener(Cipher.NONE)
    notes = b"".join(sealer(Cipher.NONE).page(STAMP, bytes(32), RecordKind.NOTES))
    with pytest.raises(DataDamaged, match=r"^record is of kind 1 instead of 2$"):
        plain.page(sealed_unit(Cipher.NONE, Codec.NONE))
    with pytest.raises(DataDamaged, match=r"^record is of kind 2 instead of 3$"):
        plain.page(sealed_page(Cipher.NONE), RecordKind.NOTES)
    with pytest.raises(DataDamaged, match=r"^record is of kind 3 instead of 2$"):
        plain.page(notes)
    for record in (sealed_page(Cipher.NONE), notes):
        with pytest.raises(DataDamaged, match=r"^record is not a unit$"):
            plain.unit(record)


def test_a_page_with_pieces_is_refused() -> None:
    with pytest.raises(DataDamaged, match=r"^record of kind 2 states 1 pieces$"):
        opener(Cipher.NONE).page(forged(sealed_page(Cipher.NONE), pieces=1))


@pytest.mark.parametrize("pieces", [0, 65, 255])
def test_a_unit_has_one_to_64_pieces(pieces: int) -> None:
    changed = forged(sealed_unit(Cipher.NONE, Codec.NONE), pieces=pieces, raw=pieces * PIECE_SIZE)
    with pytest.raises(DataDamaged, match=r"^record is not a unit$"):
        opener(Cipher.NONE).unit(changed)


@pytest.mark.parametrize("pieces", [1, 64])
def test_units_of_every_allowed_size_come_back(pieces: int) -> None:
    entries = [PieceEntry(b"t" * 8, piece, b"d" * 16) for piece in range(pieces)]
    codec, packed = compress(bytes(pieces * PIECE_SIZE), Compression.ZSTD_1)
    record = b"".join(sealer(Cipher.NONE).unit(STAMP, entries, codec, packed))
    found, body = opener(Cipher.NONE).unit(record)
    assert (found, len(body)) == (entries, pieces * PIECE_SIZE)


@pytest.mark.parametrize("fields", [{"pieces": 2}, {"raw": 2 * PIECE_SIZE}, {"raw": 3 * PIECE_SIZE - 1}, {"raw": 0}])
def test_a_unit_whose_body_is_not_its_pieces_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(DataDamaged, match=r"^unit states a wrong body size$"):
        opener(Cipher.NONE).unit(forged(sealed_unit(Cipher.NONE, Codec.NONE), **fields))


def test_a_unit_without_room_for_its_piece_list_is_refused() -> None:
    header, payload = opener(Cipher.NONE).payload(sealed_unit(Cipher.NONE, Codec.ZSTD))
    assert unit_entries(header, payload[: 3 * 28]) == ENTRIES
    with pytest.raises(DataDamaged, match=r"^record is not a unit$"):
        unit_entries(header, payload[: 3 * 28 - 1])
