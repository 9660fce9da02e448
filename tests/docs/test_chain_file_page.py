"""docs/formats/chain-file.md is true: its tables are compared with the bytes that the code writes."""

import hashlib
import hmac
import json
import re
import struct
import zlib
from pathlib import Path

import pytest
from blake3 import blake3

from holdfast.clock import SystemClock
from holdfast.formats import contents, digests
from holdfast.formats.contents import decode_contents
from holdfast.formats.keys import ChainKeys, PassphraseCost, new_encrypted_keys, plain_keys
from holdfast.formats.magic import (
    FORMAT_VERSION,
    PLACES_MAX,
    UNIT_SIZES,
    Cipher,
    Codec,
    FileKind,
    FileState,
    RecordKind,
)
from holdfast.formats.pages import Ref
from holdfast.formats.record import Note, PieceEntry, RecordOpener, RecordSealer, Stamp, pack_notes
from holdfast.formats.superblock import Superblock, pack_superblock
from holdfast.model.machine import DISK_SIZE_MAX, DISKS_PER_MACHINE_MAX
from holdfast.model.machine_files import FILE_NAME_BYTES_MAX, FILE_SIZE_MAX, FILES_PER_POINT_MAX, FILES_SIZE_MAX
from holdfast.pipeline.restore import DiskRestore
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import Chain
from holdfast.storage.files.atomic import HostFiles
from scripts import worked_example
from tests.docs.format_pages import CHAIN_PAGE, Row, blocks, evaluated, quoted, section, shown_bytes, tables
from tests.second_reader import reader

CHAIN_ID, FILE_ID, KEY_ID = bytes(range(1, 17)), bytes(range(17, 33)), bytes(range(33, 49))
KEYS = new_encrypted_keys(
    CHAIN_ID, "open sesame", bytes(range(100, 160)), PassphraseCost(memory_kib=0x108, iterations=3, lanes=2)
)


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def assert_layout(rows: list[Row], data: bytes, expected: dict[str, bytes], names: dict[str, int]) -> None:
    """Compare every row with the bytes at its place; rows follow each other without gap and name every field."""
    at = 0
    for row in rows:
        offset, size = evaluated(row["Offset"], names), evaluated(row["Size"], names)
        assert offset == at, row
        at += size
        found = data[offset:at]
        if row["Field"]:
            assert found == expected[row["Field"]], row
            assert row["Field"] == "payload" or len(expected[row["Field"]]) == size
        else:
            assert row["Meaning"] == "zero"
            assert found == bytes(size)
    assert at == len(data)
    assert sorted(row["Field"] for row in rows if row["Field"]) == sorted(expected)


def numbered(meaning: str) -> dict[int, str]:
    """Return the values that a row lists, such as ``1 full, 2 increment``."""
    return {int(number): words for number, words in re.findall(r"(?:^|, )(\d+) (\w[^,]*)", meaning)}


def row(rows: list[Row], field: str) -> Row:
    [found] = [row for row in rows if row["Field"] == field]
    return found


# ---------------------------------------------------------------------------------------------------- superblock

SUPERBLOCK_ROWS = tables(section(CHAIN_PAGE, "Superblock"))[0]


def superblock() -> tuple[Superblock, bytes]:
    block = Superblock(
        kind=FileKind.INCREMENT,
        unit_size=1 << 22,
        state=FileState.COMPLETE,
        generation=0x0102030405060708,
        end=0x1112131415161000,
        chain_id=CHAIN_ID,
        file_id=FILE_ID,
        key_id=KEY_ID,
        root=Ref(offset=0x2122232425262728, length=0x31323334, digest=bytes(range(70, 86))),
        envelope=KEYS.envelope,
    )
    return block, pack_superblock(block, KEYS)


def test_the_superblock_lies_as_its_table_says() -> None:
    block, data = superblock()
    expected = {
        "magic": b"HFCHAIN1",
        "version": little(1, 2),
        "reader_min": little(1, 2),
        "kind": b"\2",
        "cipher": b"\1",
        "unit_shift": b"\x16",
        "state": b"\2",
        "generation": little(block.generation, 8),
        "end": little(block.end, 8),
        "chain_id": CHAIN_ID,
        "file_id": FILE_ID,
        "key_id": KEY_ID,
        "root_offset": little(block.root.offset, 8),
        "root_length": little(block.root.length, 4),
        "root_digest": block.root.digest,
        "salt": bytes(range(132, 148)),
        "memory_kib": little(0x108, 4),
        "iterations": little(3, 4),
        "lanes": little(2, 4),
        "wrap_nonce": bytes(range(148, 160)),
        "wrapped_key": KEYS.envelope.wrapped_key,
        "crc": little(zlib.crc32(data[:4060]), 4),
        "seal": blake3(data[:4064], key=KEYS.seal_key(FILE_ID)).digest(),
    }
    assert_layout(SUPERBLOCK_ROWS, data, expected, {})


def test_the_values_of_the_superblock_are_those_of_the_code() -> None:
    assert numbered(row(SUPERBLOCK_ROWS, "kind")["Meaning"]) == {kind: kind.name.lower() for kind in FileKind}
    assert set(numbered(row(SUPERBLOCK_ROWS, "cipher")["Meaning"])) == set(Cipher)
    assert set(numbered(row(SUPERBLOCK_ROWS, "state")["Meaning"])) == set(FileState)
    shifts = re.findall(r"\d+", row(SUPERBLOCK_ROWS, "unit_shift")["Meaning"].partition(":")[2])
    assert tuple(1 << int(shift) for shift in shifts) == UNIT_SIZES
    assert quoted(row(SUPERBLOCK_ROWS, "magic")["Meaning"]) == ["HFCHAIN1"]
    assert row(SUPERBLOCK_ROWS, "version")["Meaning"].endswith(f", {FORMAT_VERSION}")


# ---------------------------------------------------------------------------------------------------- records

RECORD_ROWS, PIECE_ROWS, NOTE_ROWS = tables(section(CHAIN_PAGE, "Records"))
STAMP = Stamp(0x0102030405060708, 0x11121314, 0x21222324, FILE_ID, KEY_ID)
ENTRY = PieceEntry(bytes(range(8)), 0x31323334, bytes(range(50, 66)))


@pytest.mark.parametrize("cipher", list(Cipher))
def test_a_record_lies_as_its_table_says(cipher: Cipher) -> None:
    body = b"body of a unit"
    parts = RecordSealer(cipher, KEYS.record_key(KEY_ID)).unit(STAMP, [ENTRY], Codec.ZSTD, body)
    stored = 28 + len(body) + (16 if cipher else 0)
    data = b"".join(parts)[: 80 + stored]
    opener = RecordOpener(cipher, KEYS.record_key)
    _, payload = opener.payload(data)
    assert bytes(payload[28:]) == body
    expected = {
        "magic": b"HFRECORD",
        "kind": b"\1",
        "codec": b"\2",
        "cipher": bytes([cipher]),
        "pieces": b"\1",
        "stored": little(stored, 4),
        "raw": little(65536, 4),
        "number": little(STAMP.number, 4),
        "generation": little(STAMP.generation, 8),
        "file_id": FILE_ID,
        "key_id": KEY_ID,
        "point": little(STAMP.point, 4),
        "payload_crc": little(zlib.crc32(data[80:]), 4),
        "header_crc": little(zlib.crc32(data[:76]), 4),
        "payload": data[80:],
    }
    assert_layout(RECORD_ROWS, data, expected, {"stored": stored})
    piece = {"disk_tag": ENTRY.disk_tag, "piece": little(ENTRY.piece, 4), "digest": ENTRY.digest}
    assert_layout(PIECE_ROWS, bytes(payload[:28]), piece, {})


def test_a_note_lies_as_its_table_says() -> None:
    note = Note(bytes(range(8)), 0x31323334, 0x41424344, bytes(range(50, 66)))
    expected = {
        "disk_tag": note.disk_tag,
        "piece": little(note.piece, 4),
        "count": little(note.count, 4),
        "digest": note.digest,
    }
    assert_layout(NOTE_ROWS, pack_notes([note]), expected, {})


def test_the_values_of_a_record_are_those_of_the_code() -> None:
    assert numbered(row(RECORD_ROWS, "kind")["Meaning"]) == {kind: kind.name.lower() for kind in RecordKind}
    assert set(numbered(row(RECORD_ROWS, "codec")["Meaning"])) == set(Codec)
    assert set(numbered(row(RECORD_ROWS, "cipher")["Meaning"])) == set(Cipher)
    assert quoted(row(RECORD_ROWS, "magic")["Meaning"]) == ["HFRECORD"]


# ---------------------------------------------------------------------------------------------------- keys, digests


def test_keys_are_derived_as_the_table_says() -> None:
    keys = {
        "digest key": KEYS.digest_key,
        "seal key": KEYS.seal_key(FILE_ID),
        "record key": KEYS.record_key(KEY_ID),
    }
    ids = {"chain_id": CHAIN_ID, "file_id": FILE_ID, "key_id": KEY_ID}
    rows = {row["Key"]: row["How it comes about"] for row in tables(section(CHAIN_PAGE, "Keys"))[0]}
    derived = {name: words for name, words in rows.items() if words.startswith("HKDF")}
    assert set(derived) == set(keys)
    for name, words in derived.items():
        matched = re.fullmatch(r"HKDF-SHA256\(chain key, salt (\w+), info `([a-z ]+)`\), 32 bytes", words)
        assert matched
        assert keys[name] == hkdf_sha256(bytes(range(100, 132)), ids[matched[1]], matched[2].encode())


def hkdf_sha256(key: bytes, salt: bytes, info: bytes) -> bytes:
    extracted = hmac.new(salt, key, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_the_public_keys_of_a_plain_chain_are_derived_as_the_table_says() -> None:
    rows = {row["Key"]: row["How it comes about"] for row in tables(section(CHAIN_PAGE, "Keys"))[0]}
    assert rows["chain key, cipher 0"] == "chain_id twice (32 bytes, public)"
    assert plain_keys(CHAIN_ID).digest_key == hkdf_sha256(CHAIN_ID * 2, CHAIN_ID, b"holdfast digest")


def test_digests_have_the_sizes_of_the_table() -> None:
    key = KEYS.digest_key
    sizes = {row["Name"]: int(row["Size"]) for row in tables(section(CHAIN_PAGE, "Digests and roots"))[0]}
    assert sizes == {
        "piece digest": len(digests.piece_digests(b"x" * 65536, key)[0]),
        "page digest": len(digests.page_digest(b"", key)),
        "segment digest": len(digests.segment_digest(b"x" * 16384, key)),
        "disk root": len(digests.disk_root(512, [], key)),
        "point root": len(digests.point_root(bytes(16), None, [], key)),
    }


# ---------------------------------------------------------------------------------------------------- contents, limits


def test_the_members_of_the_contents_page_are_those_of_the_code() -> None:
    whole, point, disk = (
        [name for row in rows for name in quoted(row["Member"])]
        for rows in tables(section(CHAIN_PAGE, "The contents page"))
    )
    assert whole == list(contents.Contents.__struct_fields__)
    assert point == list(contents.Point.__struct_fields__)
    assert disk == list(contents.PointDisk.__struct_fields__)
    assert {name: members_listed(name) for name in OBJECTS} == OBJECTS


OBJECTS = {
    "machine": contents.PointMachine.__struct_fields__,
    "disks": contents.FileDisk.__struct_fields__,
    "parent": contents.ParentPoint.__struct_fields__,
    "units": contents.Units.__struct_fields__,
    "notes": contents.Notes.__struct_fields__,
    "files": contents.PointFile.__struct_fields__,
}


def members_listed(name: str) -> tuple[str, ...]:
    """Return the members of an object that is described inside a row."""
    lines = section(CHAIN_PAGE, "The contents page").splitlines()
    [listed] = [line.partition(" with ")[2] for line in lines if line.startswith(f"| `{name}` |") and " with " in line]
    return tuple(quoted(re.sub(r"\([^)]*\)", "", listed.partition(":")[0])))


def test_the_limits_are_those_of_the_code() -> None:
    limits = {row["What"]: row["Limit"] for row in tables(section(CHAIN_PAGE, "Limits"))[0]}
    assert limits["disk"] == f"{DISK_SIZE_MAX >> 40} TiB"
    assert limits["disks of a machine"] == str(DISKS_PER_MACHINE_MAX)
    assert limits["machine files of a point"] == str(FILES_PER_POINT_MAX)
    assert limits["name of a machine file"] == f"{FILE_NAME_BYTES_MAX} bytes"
    assert limits["machine file"] == f"{FILE_SIZE_MAX >> 20} MiB"
    assert limits["machine files of a point together"] == f"{FILES_SIZE_MAX >> 20} MiB"
    held = re.fullmatch(r"2\^(\d+) \((\d+) TiB\)", limits["pieces held by one file"])
    assert held
    assert 1 << int(held[1]) == PLACES_MAX
    assert int(held[2]) << 40 == PLACES_MAX << 16


# ---------------------------------------------------------------------------------------------------- worked example

EXAMPLE = section(CHAIN_PAGE, "A worked example")
SHOWN = shown_bytes(EXAMPLE)


def shown_file() -> bytes:
    """Return the file of the example from the lines of the page alone."""
    data = bytearray(max(SHOWN) + 16)
    for offset, line in SHOWN.items():
        data[offset : offset + len(line)] = line
    return bytes(data.ljust(-(-len(data) // 4096) * 4096, b"\0"))


class Target:
    """A disk in memory that a restore writes to."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.data = bytearray(b"\xff" * size_bytes)

    def write(self, offset: int, data: memoryview) -> None:
        self.data[offset : offset + len(data)] = data

    def flush(self) -> None:
        """Memory needs none."""


def test_the_example_is_what_the_code_writes(tmp_path: Path) -> None:
    """Everything that the newest superblock leads to is shown, and nothing else."""
    worked_example.write_example(tmp_path)
    path = tmp_path / worked_example.FILE_NAME
    written = path.read_bytes()
    with ChainFile.open(HostFiles(), path) as file:
        [disk] = file.contents.points[0].disks
        whole = file.contents.units.table, file.contents.digests, file.contents.disks[0].pieces, disk.map
        refs = [file.superblock.root, *(table.top.ref for table in whole if table.top)]
        ranges = [(0, 4096), *((ref.offset, ref.length) for ref in refs)]
        unit = file.unit(0)
        assert unit is not None
        ranges.append((unit.offset, unit.length))
    expected = bytearray(len(written))
    for offset, length in ranges:
        expected[offset : offset + length] = written[offset : offset + length]
    assert len(ranges) == 7
    assert shown_file() == expected


def test_the_example_is_restored_from_the_page(tmp_path: Path) -> None:
    (tmp_path / worked_example.FILE_NAME).write_bytes(shown_file())
    with Chain.open(HostFiles(), tmp_path) as chain:
        target = Target(65536)
        key = chain.files[0].keys.digest_key
        DiskRestore(chain.disk(1, "disk-0"), target, key, SystemClock()).run(0, lambda _: None)  # type: ignore[arg-type]
    assert target.data == b"Holdfast" * 8192
    assert "`Holdfast` 8192 times" in EXAMPLE


def test_the_example_is_restored_from_the_page_by_the_second_reader(tmp_path: Path) -> None:
    (tmp_path / worked_example.FILE_NAME).write_bytes(shown_file())
    arguments = [
        str(tmp_path),
        "--restore",
        "1",
        "--machine",
        "vm-1",
        "--out",
        str(tmp_path / "out"),
        "--check",
        "full",
    ]
    assert reader.main(arguments) == 0
    assert (tmp_path / "out" / "disk-0.raw").read_bytes() == b"Holdfast" * 8192


def test_the_example_is_decoded_in_words_as_in_bytes(tmp_path: Path) -> None:
    data = shown_file()
    assert f"`{worked_example.FILE_NAME}`, {len(data)} bytes long" in EXAMPLE
    (tmp_path / worked_example.FILE_NAME).write_bytes(data)
    [text] = blocks(EXAMPLE, "json")
    with ChainFile.open(HostFiles(), tmp_path / worked_example.FILE_NAME) as file:
        assert decode_contents(text.encode()) == file.contents
        assert json.loads(text) == json.loads(file.store.body(file.superblock.root))
        generation, root_offset, root_length = struct.unpack_from("<Q", data, 16) + struct.unpack_from("<QI", data, 80)
        assert f"of generation {generation}; the contents page is at {root_offset}, " in EXAMPLE
        assert f"its record {root_length} bytes long" in EXAMPLE
        entries, _ = file.read_unit(0)
        [entry] = entries
        assert f"disk tag `{entry.disk_tag.hex()}`, piece 0, digest `{entry.digest.hex()}`" in EXAMPLE
        unit = file.unit(0)
        assert unit is not None
        assert f"offset {unit.offset}, record length {unit.length}, point {unit.point}" in EXAMPLE
        page = file.map_table(1, "disk-0").page(0)
        assert page is not None
        assert list(page.runs(0, 65536)) == [(0, 1, 1), (1, 65535, 0xFFFFFFFF)]
        assert f"The segment digest is `{page.segment(0).hex()}`." in EXAMPLE
        [point] = file.contents.points
        assert f"the disk root `{point.disks[0].root}` and the point root `{point.root}`" in EXAMPLE
        assert keys_of_the_example() == example_keys(file.keys)


def keys_of_the_example() -> dict[str, str]:
    return {row["Key"]: quoted(row["Value"])[0] for row in tables(EXAMPLE)[0]}


def example_keys(keys: ChainKeys) -> dict[str, str]:
    return {
        "chain key": (worked_example.CHAIN_ID * 2).hex(),
        "digest key": keys.digest_key.hex(),
        "seal key": keys.seal_key(worked_example.FILE_ID).hex(),
    }


def test_the_section_is_the_generated_one() -> None:
    text = CHAIN_PAGE.read_text()
    assert worked_example.with_example(text, worked_example.CHAIN_HEADING, worked_example.examples()[0]) == text
