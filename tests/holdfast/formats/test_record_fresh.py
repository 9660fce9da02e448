"""A record fresh from the sealer opens as it will when it is read from a file."""

import pytest

from holdfast.errors import DataDamaged
from holdfast.formats.magic import PIECE_SIZE, Cipher, Codec
from holdfast.formats.record import Buffer, PieceEntry, RecordOpener, RecordSealer, Stamp

KEY = bytes(range(32))
STAMP = Stamp(generation=7, number=1, point=3, file_id=b"F" * 16, key_id=b"K" * 16)
ENTRIES = [PieceEntry(b"12345678", 40 + n, bytes([n + 1]) * 16) for n in range(2)]
BODY = bytes(range(256)) * (2 * PIECE_SIZE // 256)
BOTH_CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))


def fresh(cipher: Cipher) -> list[Buffer]:
    return RecordSealer(cipher, KEY).unit(STAMP, ENTRIES, Codec.NONE, BODY)


def opener(cipher: Cipher) -> RecordOpener:
    return RecordOpener(cipher, lambda _: KEY)


@BOTH_CIPHERS
def test_its_buffers_open_to_the_same_as_the_joined_record(cipher: Cipher) -> None:
    record = fresh(cipher)
    entries, body = opener(cipher).sealed_unit(record)
    assert (entries, bytes(body)) == (ENTRIES, BODY)
    joined_entries, joined_body = opener(cipher).unit(b"".join(record))
    assert (joined_entries, bytes(joined_body)) == (ENTRIES, BODY)


@BOTH_CIPHERS
def test_a_changed_byte_in_any_buffer_is_noticed(cipher: Cipher) -> None:
    record = fresh(cipher)
    for index in range(len(record) - 1):
        changed = bytearray(record[index])
        changed[-1] ^= 1
        with pytest.raises(DataDamaged):
            opener(cipher).sealed_unit([*record[:index], changed, *record[index + 1 :]])


@BOTH_CIPHERS
def test_a_buffer_that_is_too_short_is_noticed(cipher: Cipher) -> None:
    record = fresh(cipher)
    with pytest.raises(DataDamaged, match="payload of"):
        opener(cipher).sealed_unit([*record[:-2], record[-2][:-1], record[-1]])
