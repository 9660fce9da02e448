"""docs/formats/chain-metadata.md is true: its tables are compared with the bytes that the code writes."""

import hashlib
import hmac
import re
import zlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.formats.chain_metadata import (
    ChainMetadata,
    MetadataFile,
    MetadataPoint,
    decode_metadata,
    encode_metadata,
    metadata_envelope,
)
from holdfast.formats.keys import PassphraseCost, new_encrypted_keys, open_keys, plain_keys
from holdfast.formats.magic import Cipher
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import check_against_metadata
from holdfast.storage.files.atomic import HostFiles
from scripts import worked_example
from tests.docs.format_pages import METADATA_PAGE, quoted, section, shown_bytes, tables
from tests.docs.test_chain_file_page import assert_layout, shown_file

CHAIN_ID, KEY_ID = bytes(range(1, 17)), bytes(range(33, 49))
KEYS = {
    Cipher.NONE: plain_keys(CHAIN_ID),
    Cipher.AES_256_GCM: new_encrypted_keys(
        CHAIN_ID, "open sesame", bytes(range(100, 160)), PassphraseCost(memory_kib=0x108, iterations=3, lanes=2)
    ),
}
METADATA = ChainMetadata(chain=CHAIN_ID.hex(), sequence=1)
LAYOUT, MEMBERS = tables(section(METADATA_PAGE, "The chain metadata file, version 1"))[:2]
EXAMPLE = section(METADATA_PAGE, "A worked example")
PROSE = METADATA_PAGE.read_text()


@pytest.mark.parametrize("cipher", list(Cipher))
def test_the_file_lies_as_its_table_says(cipher: Cipher) -> None:
    keys = KEYS[cipher]
    data = encode_metadata(METADATA, keys, KEY_ID)
    body = data[144:-32]
    envelope = keys.envelope
    expected = {
        "magic": b"HFMETA01",
        "version": b"\1\0",
        "reader_min": b"\1\0",
        "cipher": bytes([cipher]),
        "chain_id": CHAIN_ID,
        "key_id": KEY_ID,
        "salt": envelope.salt,
        "memory_kib": envelope.memory_kib.to_bytes(4, "little"),
        "iterations": envelope.iterations.to_bytes(4, "little"),
        "lanes": envelope.lanes.to_bytes(4, "little"),
        "wrap_nonce": envelope.wrap_nonce,
        "wrapped_key": envelope.wrapped_key,
        "length": len(body).to_bytes(4, "little"),
        "crc": zlib.crc32(data[:140] + body).to_bytes(4, "little"),
        "body": body,
        "seal": blake3(data[:-32], key=keys.metadata_seal_key).digest(),
    }
    assert_layout(LAYOUT, data, expected, {"length": len(body)})
    if cipher:
        body = AESGCM(keys.metadata_key(KEY_ID)).decrypt(bytes(12), body, data[:136])
    assert body == msgspec.json.encode(METADATA)


def test_keys_are_derived_as_the_page_says() -> None:
    keys, ids = KEYS[Cipher.AES_256_GCM], {"chain_id": CHAIN_ID, "key_id": KEY_ID}
    found = re.findall(r"the \*([a-z ]+)\* is HKDF-SHA256\(chain key, salt (\w+), info `([a-z ]+)`\)", PROSE)
    derived = {name: hkdf_sha256(bytes(range(100, 132)), ids[salt], info.encode()) for name, salt, info in found}
    assert derived == {"metadata seal key": keys.metadata_seal_key, "metadata key": keys.metadata_key(KEY_ID)}


def hkdf_sha256(key: bytes, salt: bytes, info: bytes) -> bytes:
    extracted = hmac.new(salt, key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_the_members_of_the_body_are_those_of_the_code() -> None:
    members = {quoted(row["Member"])[0]: quoted(row["Meaning"]) for row in MEMBERS}
    assert list(members) == list(ChainMetadata.__struct_fields__)
    assert members["files"] == list(MetadataFile.__struct_fields__)
    assert members["points"] == list(MetadataPoint.__struct_fields__)


def shown_metadata() -> bytes:
    """Return the file of the example from the lines of the page alone."""
    shown = shown_bytes(EXAMPLE)
    data = bytearray(max(shown) + len(shown[max(shown)]))
    for offset, line in shown.items():
        data[offset : offset + len(line)] = line
    return bytes(data)


def test_the_example_is_what_the_code_writes(tmp_path: Path) -> None:
    assert shown_metadata() == worked_example.write_example(tmp_path)
    assert f"`chain.hfm`, {len(shown_metadata())} bytes" in EXAMPLE


def test_the_example_describes_the_example_of_the_chain_file(tmp_path: Path) -> None:
    data = shown_metadata()
    chain_id, envelope = metadata_envelope(data)
    keys = open_keys(chain_id, envelope, None)
    metadata = decode_metadata(data, keys)
    assert f"metadata seal key is `{keys.metadata_seal_key.hex()}`" in EXAMPLE
    assert metadata.points[0].created == datetime(2026, 1, 2, 12, tzinfo=UTC)
    (tmp_path / worked_example.FILE_NAME).write_bytes(shown_file())
    with Chain.open(HostFiles(), tmp_path) as chain:
        check_against_metadata(chain, metadata)
        [point] = chain.files[0].contents.points
        assert (metadata.points[0].root, metadata.points[0].id) == (point.root, point.id)
        assert metadata.files[0].size == len(shown_file())


def test_the_section_is_the_generated_one() -> None:
    text = METADATA_PAGE.read_text()
    assert worked_example.with_example(text, worked_example.METADATA_HEADING, worked_example.examples()[1]) == text
