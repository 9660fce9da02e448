"""The chain metadata file: read as it was written, or not at all."""

import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import DataError, FileDamaged, FormatTooNew, FormatUnknown
from holdfast.formats.chain_metadata import (
    ChainMetadata,
    MetadataFile,
    MetadataPoint,
    decode_metadata,
    encode_metadata,
    metadata_envelope,
)
from holdfast.formats.keys import ChainKeys, PassphraseCost, new_encrypted_keys, open_keys, plain_keys
from holdfast.formats.magic import Cipher

CHAIN_ID, KEY_ID = bytes(range(16)), bytes(range(30, 46))
CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)
KEYS = {
    Cipher.NONE: plain_keys(CHAIN_ID),
    Cipher.AES_256_GCM: new_encrypted_keys(CHAIN_ID, "open sesame", bytes(range(60)), CHEAP),
}
BOTH_CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))
METADATA = ChainMetadata(
    chain=CHAIN_ID.hex(),
    sequence=3,
    files=(
        MetadataFile(
            name="00000001-full.hfc",
            file="1" * 32,
            kind="full",
            generation=4,
            size=65536,
            holds=(1, 1),
            complete=True,
        ),
    ),
    points=(
        MetadataPoint(
            number=1,
            id="2" * 32,
            file="1" * 32,
            machine_id="vm-1",
            machine_name="web",
            created=datetime(2026, 1, 2, tzinfo=UTC),
            complete=True,
            root="3" * 64,
        ),
        MetadataPoint(
            number=2,
            id="4" * 32,
            file="1" * 32,
            machine_id="vm-1",
            machine_name="web",
            created=datetime(2026, 1, 3, tzinfo=UTC),
            complete=False,
            root=None,
        ),
    ),
)


def encoded(cipher: Cipher) -> bytes:
    return encode_metadata(METADATA, KEYS[cipher], KEY_ID)


def read(data: bytes, keys: ChainKeys) -> ChainMetadata:
    metadata_envelope(data)
    return decode_metadata(data, keys)


def resealed(head_and_body: bytes, keys: ChainKeys) -> bytes:
    """Return a file with right checksum and seal, as only a writer with the keys can make it."""
    head, body = head_and_body[:136], head_and_body[144:]
    length = len(body).to_bytes(4, "little")
    whole = head + length + zlib.crc32(head + length + body).to_bytes(4, "little") + body
    return whole + blake3(whole, key=keys.metadata_seal_key).digest()


def with_body(body: bytes) -> bytes:
    return resealed(encoded(Cipher.NONE)[:144] + body, KEYS[Cipher.NONE])


@BOTH_CIPHERS
def test_metadata_comes_back(cipher: Cipher) -> None:
    assert read(encoded(cipher), KEYS[cipher]) == METADATA


@BOTH_CIPHERS
def test_the_head_leads_to_the_keys(cipher: Cipher) -> None:
    chain_id, envelope = metadata_envelope(encoded(cipher))
    assert (chain_id, envelope) == (CHAIN_ID, KEYS[cipher].envelope)
    keys = open_keys(chain_id, envelope, "open sesame" if cipher else None)
    assert read(encoded(cipher), keys) == METADATA


@BOTH_CIPHERS
def test_the_file_is_sealed_as_documented(cipher: Cipher) -> None:
    data = encoded(cipher)
    body = data[144:-32]
    assert data[136:140] == len(body).to_bytes(4, "little")
    assert data[140:144] == zlib.crc32(data[:140] + body).to_bytes(4, "little")
    assert data[-32:] == blake3(data[:-32], key=KEYS[cipher].metadata_seal_key).digest()


def test_the_body_is_encrypted_as_documented() -> None:
    keys = KEYS[Cipher.AES_256_GCM]
    data = encoded(Cipher.AES_256_GCM)
    plain = AESGCM(keys.metadata_key(KEY_ID)).decrypt(bytes(12), data[144:-32], data[:136])
    assert plain == msgspec.json.encode(METADATA) == encoded(Cipher.NONE)[144:-32]
    assert b"vm-1" not in data


def test_each_writing_has_a_key_of_its_own() -> None:
    keys = KEYS[Cipher.AES_256_GCM]
    first, second = (encode_metadata(METADATA, keys, key_id) for key_id in (KEY_ID, KEY_ID[::-1]))
    assert first[144:176] != second[144:176]
    assert read(first, keys) == read(second, keys)


@BOTH_CIPHERS
def test_every_flipped_byte_is_noticed(cipher: Cipher) -> None:
    data = bytearray(encoded(cipher))
    for at in range(len(data)):
        data[at] ^= 0x41
        with pytest.raises(DataError):
            read(bytes(data), KEYS[cipher])
        data[at] ^= 0x41


@BOTH_CIPHERS
def test_a_flipped_byte_behind_the_magic_number_is_damage_and_nothing_else(cipher: Cipher) -> None:
    """Damage is what the file is rebuilt after; it must not pass for a file of a newer version."""
    data = bytearray(encoded(cipher))
    for at in range(8, len(data)):
        data[at] ^= 0x41
        with pytest.raises(FileDamaged):
            read(bytes(data), KEYS[cipher])
        data[at] ^= 0x41


@BOTH_CIPHERS
def test_every_forged_byte_is_noticed(cipher: Cipher) -> None:
    for at in {*range(8, len(encoded(cipher)) - 32)} - {*range(140, 144)}:
        data = bytearray(encoded(cipher))
        data[at] ^= 0x41
        data[140:144] = zlib.crc32(data[:140] + data[144:-32]).to_bytes(4, "little")
        with pytest.raises((FileDamaged, FormatTooNew)):
            read(bytes(data), KEYS[cipher])


@BOTH_CIPHERS
def test_a_file_of_any_other_length_is_refused(cipher: Cipher) -> None:
    data = encoded(cipher)
    for length in range(len(data)):
        with pytest.raises((FileDamaged, FormatUnknown)):
            read(data[:length], KEYS[cipher])
    with pytest.raises(FileDamaged):
        metadata_envelope(data + b"\0")


@pytest.mark.parametrize("data", [b"", b"HFMETA0", bytes(400), b"HFMETA02" + bytes(400), b"HFCHAIN1" + bytes(4088)])
def test_what_has_no_magic_number_is_unknown(data: bytes) -> None:
    with pytest.raises(FormatUnknown, match=r"the magic number is missing$"):
        metadata_envelope(data)


def test_a_file_for_newer_readers_is_refused_as_such() -> None:
    data = bytearray(encoded(Cipher.NONE)[:-32])
    data[10] = 2
    with pytest.raises(FormatTooNew, match=r"^chain metadata needs a reader of version 2, this one knows 1$"):
        metadata_envelope(resealed(bytes(data), KEYS[Cipher.NONE]))


def test_a_newer_writer_that_older_readers_may_read_is_read() -> None:
    data = bytearray(encoded(Cipher.NONE)[:-32])
    data[8] = 2
    assert read(resealed(bytes(data), KEYS[Cipher.NONE]), KEYS[Cipher.NONE]) == METADATA


def test_an_unknown_cipher_is_refused() -> None:
    data = bytearray(encoded(Cipher.NONE)[:-32])
    data[12] = 2
    with pytest.raises(FileDamaged, match=r"unknown cipher 2$"):
        metadata_envelope(resealed(bytes(data), KEYS[Cipher.NONE]))


@BOTH_CIPHERS
def test_keys_of_another_chain_do_not_open_it(cipher: Cipher) -> None:
    with pytest.raises(FileDamaged, match=r"seal does not match$"):
        decode_metadata(encoded(cipher), plain_keys(bytes(16)))


def test_a_body_that_does_not_authenticate_is_refused() -> None:
    keys = KEYS[Cipher.AES_256_GCM]
    data = bytearray(encoded(Cipher.AES_256_GCM)[:-32])
    data[150] ^= 1
    with pytest.raises(FileDamaged, match=r"^chain metadata cannot be read: "):
        decode_metadata(resealed(bytes(data), keys), keys)


def test_members_of_later_versions_are_ignored() -> None:
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(METADATA))
    body["later"] = body["files"][0]["later"] = body["points"][0]["later"] = {"any": [1]}
    assert read(with_body(msgspec.json.encode(body)), KEYS[Cipher.NONE]) == METADATA


def test_lists_may_be_missing() -> None:
    found = read(with_body(b'{"chain":"c","sequence":1}'), KEYS[Cipher.NONE])
    assert found == ChainMetadata(chain="c", sequence=1, files=(), points=())


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"chain":"\xff","sequence":1}', b'{"x":' * 5000])
def test_a_body_that_is_no_metadata_is_damage(body: bytes) -> None:
    with pytest.raises(FileDamaged, match=r"^chain metadata cannot be read: "):
        read(with_body(body), KEYS[Cipher.NONE])
