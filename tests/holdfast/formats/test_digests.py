"""Digests against an implementation that shares nothing with the product, and against fixed values.

Every expected value is put together here as docs/formats/chain-file.md section 6 says.
"""

import random

import pytest
from blake3 import blake3

from holdfast.formats import digests
from holdfast.formats.digests import (
    disk_root,
    disk_tag,
    page_digest,
    piece_digests,
    point_root,
    raw_zero_digest,
    segment_digest,
)
from holdfast.formats.magic import PIECE_SIZE, ZERO_DIGEST
from tests.second_reader import reader

KEY = b"whats the Elvish word for friend"  # the key of BLAKE3's official test vectors


def official_input(length: int) -> bytes:
    return bytes(at % 251 for at in range(length))


def test_blake3_is_the_published_one() -> None:
    # `keyed_hash` of the official vectors for inputs of 1024 and 31744 bytes.
    assert page_digest(official_input(1024), KEY).hex() == "75c46f6f3d9eb4f55ecaaee480db732e"
    assert page_digest(official_input(31744), KEY).hex() == "efa53b389ab67c593dba624d898d0f73"


def test_a_piece_digest_is_half_of_the_keyed_hash_of_the_piece() -> None:
    data = random.Random(1).randbytes(3 * PIECE_SIZE)
    parts = [data[at : at + PIECE_SIZE] for at in range(0, len(data), PIECE_SIZE)]
    assert piece_digests(data, KEY) == [reader.blake3(KEY, part)[:16] for part in parts]


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_pieces_of_zeros_have_the_digest_of_zeros(make: type[bytes | bytearray | memoryview]) -> None:
    full = b"\0" * (PIECE_SIZE - 1) + b"\1"
    data = bytes(PIECE_SIZE) + full + bytes(2 * PIECE_SIZE)
    expected = [ZERO_DIGEST, reader.blake3(KEY, full)[:16], ZERO_DIGEST, ZERO_DIGEST]
    assert piece_digests(make(data), KEY) == expected


def test_a_piece_with_one_bit_set_is_not_zeros() -> None:
    for at in (0, 1, 4095, 32768, PIECE_SIZE - 1):
        piece = bytearray(PIECE_SIZE)
        piece[at] = 1
        assert piece_digests(piece, KEY) != [ZERO_DIGEST]


def test_no_data_has_no_digests() -> None:
    assert piece_digests(b"", KEY) == []


def test_what_zeros_hash_to_is_right_under_more_keys_than_are_remembered() -> None:
    keys = [bytes([number]) * 32 for number in range(70)]
    expected = [blake3(bytes(PIECE_SIZE), key=key).digest()[:16] for key in keys]
    assert [raw_zero_digest(key) for key in keys] == expected
    assert [raw_zero_digest(key) for key in reversed(keys)] == expected[::-1]
    assert len(digests._raw_zero) <= 65


def test_a_disk_tag_covers_machine_and_disk() -> None:
    assert disk_tag("vm-7", "scsi0:0", KEY) == reader.blake3(KEY, b"HFTAG\0\0\0vm-7\0scsi0:0")[:8]
    assert disk_tag("vm-ü", "", KEY) == reader.blake3(KEY, b"HFTAG\0\0\0vm-\xc3\xbc\0")[:8]
    assert disk_tag("vm-7", "scsi0:0", KEY).hex() == "555a486113e8d4f2"


def test_a_segment_digest_covers_its_piece_digests() -> None:
    column = random.Random(2).randbytes(16 * 1024)
    assert segment_digest(column, KEY) == reader.blake3(KEY, column)[:16]
    assert segment_digest(bytearray(column), KEY) == segment_digest(column, KEY)


def test_a_segment_of_zeros_has_the_digest_of_zeros() -> None:
    assert segment_digest(bytes(16 * 1024), KEY) == ZERO_DIGEST
    assert segment_digest(bytes(16 * 1024 - 1) + b"\1", KEY) != ZERO_DIGEST


def test_a_disk_root_covers_size_and_segments_in_order() -> None:
    segments = [bytes([number]) * 16 for number in range(5)]
    expected = reader.blake3(KEY, b"HFDISK\0\0" + (0x0123456789).to_bytes(8, "little") + b"".join(segments))
    assert disk_root(0x0123456789, segments, KEY) == expected
    assert disk_root(0x0123456789, [b"".join(segments)], KEY) == expected
    assert disk_root(0x0123456789, segments[::-1], KEY) != expected
    assert disk_root(0x0123456788, segments, KEY) != expected


def test_a_point_root_covers_id_parent_and_disks_in_order() -> None:
    point, parent = bytes(range(16)), bytes(range(32))
    disks = [("a", b"\1" * 32), ("dü", b"\2" * 32)]
    joined = b"\1\0a" + b"\1" * 32 + b"\3\0d\xc3\xbc" + b"\2" * 32
    assert point_root(point, parent, disks, KEY) == reader.blake3(KEY, b"HFPOINT\0" + point + parent + joined)
    assert point_root(point, None, [], KEY) == reader.blake3(KEY, b"HFPOINT\0" + point + bytes(32))
    assert point_root(point, parent, disks[::-1], KEY) != point_root(point, parent, disks, KEY)


def test_a_key_cannot_run_into_the_next_disk() -> None:
    point, root = bytes(16), b"\1" * 32
    longer = [("ab", root)]
    assert point_root(point, None, longer, KEY) != point_root(point, None, [("a", b"b" + root[:-1])], KEY)


def test_a_point_root_covers_the_files_of_the_machine() -> None:
    point, parent, disks = bytes(range(16)), bytes(range(32)), [("a", b"\1" * 32)]
    files = [("w.vmx", 300, b"\3" * 16), ("ü", 0, b"\4" * 16)]
    joined = b"\2\0" + b"\5\0w.vmx" + b"\x2c\1" + bytes(6) + b"\3" * 16 + b"\2\0\xc3\xbc" + bytes(8) + b"\4" * 16
    joined += b"\1\0a" + b"\1" * 32
    assert point_root(point, parent, disks, KEY, files) == reader.blake3(KEY, b"HFPOINTF" + point + parent + joined)
    others = [
        point_root(point, parent, disks, KEY),
        point_root(point, parent, disks, KEY, files[::-1]),
        point_root(point, parent, disks, KEY, files[:1]),
        point_root(point, parent, disks, KEY, [("w.vmx", 301, b"\3" * 16), files[1]]),
        point_root(point, parent, disks, KEY, [("w.vmx", 300, b"\5" * 16), files[1]]),
    ]
    assert point_root(point, parent, disks, KEY, files) not in others
