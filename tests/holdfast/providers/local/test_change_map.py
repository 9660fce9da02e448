"""The file of change tracking says what was written to it, or that it is lost."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import blake3
import pytest

from holdfast.errors import ChangeTrackingLost
from holdfast.model.ids import ChangeId
from holdfast.model.spans import Span
from holdfast.providers.local.change_map import (
    DIGEST_SIZE,
    DIGESTS_SIZE,
    HEADER_SIZE,
    PIECE_SIZE,
    RECORD_SIZE,
    WINDOW_PIECES,
    WINDOW_SIZE,
    ChangeMap,
    Header,
    generations_of,
    updated,
    write_map,
)

HEADER = Header(
    generation=7,
    tracking_id=b"t" * 16,
    disk_size_bytes=3 * WINDOW_SIZE,
    states=(b"5" * 16, b"6" * 16, b"7" * 16),
)


def record(changed: dict[int, int]) -> bytes:
    """Return a record in which pieces, by index, have a digest and a generation."""
    digests = bytearray(DIGESTS_SIZE)
    generations = [0] * WINDOW_PIECES
    for index, generation in changed.items():
        digests[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE] = bytes([index % 255 + 1]) * 16
        generations[index] = generation
    return bytes(digests) + struct.pack(f"<{WINDOW_PIECES}I", *generations)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "disk.map"
    write_map(found, HEADER, [(0, record({0: 5, 3: 7})), (2, record({1: 6, 2: 7, 1023: 7}))])
    return found


def test_what_was_written_is_read(path: Path) -> None:
    with ChangeMap(path) as found:
        assert found.header == HEADER
        assert found.record(0) == record({0: 5, 3: 7})
        assert found.record(1) == bytes(RECORD_SIZE)
        assert found.record(2) == record({1: 6, 2: 7, 1023: 7})
        assert found.record(1_000_000) == bytes(RECORD_SIZE)
        assert {0, 2} <= set(found.windows())
        assert list(found.windows()) == sorted(set(found.windows()))


def test_pieces_with_a_higher_generation_have_changed(path: Path) -> None:
    start = 2 * WINDOW_SIZE
    with ChangeMap(path) as found:
        assert list(found.changed_spans(7, 3 * WINDOW_SIZE)) == []
        assert list(found.changed_spans(6, 3 * WINDOW_SIZE)) == [
            Span(3 * PIECE_SIZE, PIECE_SIZE),
            Span(start + 2 * PIECE_SIZE, PIECE_SIZE),
            Span(start + 1023 * PIECE_SIZE, PIECE_SIZE),
        ]
        assert list(found.changed_spans(5, start + 2 * PIECE_SIZE + 512)) == [
            Span(3 * PIECE_SIZE, PIECE_SIZE),
            Span(start + PIECE_SIZE, PIECE_SIZE + 512),
        ]


def test_change_ids_name_generations(path: Path) -> None:
    with ChangeMap(path) as found:
        assert found.header.change_id() == (b"7" * 16).hex()
        for generation in (5, 6, 7):
            change_id = ChangeId((str(generation).encode() * 16).hex())
            assert found.header.generation_of(change_id) == generation
        with pytest.raises(ChangeTrackingLost, match="not among the last 3"):
            found.header.generation_of(ChangeId((b"4" * 16).hex()))


def test_a_map_of_an_empty_disk_is_one_page(tmp_path: Path) -> None:
    write_map(tmp_path / "map", HEADER, [(0, bytes(RECORD_SIZE)), (9, bytes(RECORD_SIZE))])
    assert (tmp_path / "map").stat().st_size == HEADER_SIZE
    with ChangeMap(tmp_path / "map") as found:
        assert list(found.windows()) == []
        assert list(found.changed_spans(0, 3 * WINDOW_SIZE)) == []


def test_a_map_of_a_huge_disk_is_sparse(tmp_path: Path) -> None:
    last = (64 << 40) // WINDOW_SIZE - 1
    write_map(tmp_path / "map", HEADER, [(last, record({1023: 7}))])
    assert (tmp_path / "map").stat().st_blocks * 512 < 256 << 10
    with ChangeMap(tmp_path / "map") as found:
        assert list(found.changed_spans(6, 64 << 40)) == [Span((64 << 40) - 65536, 65536)]


def test_the_layout_is_the_documented_one(path: Path) -> None:
    page = path.read_bytes()[:HEADER_SIZE]
    body = blake3.blake3()
    for window, data in ((0, record({0: 5, 3: 7})), (2, record({1: 6, 2: 7, 1023: 7}))):
        body.update(struct.pack("<Q", window) + data)
    assert page[:8] == b"HFTRACK1"
    assert struct.unpack_from("<II16sQI", page, 8) == (1, 7, b"t" * 16, 3 * WINDOW_SIZE, 3)
    assert page[48:80] == body.digest()
    assert page[80:128] == b"5" * 16 + b"6" * 16 + b"7" * 16
    assert page[4064:] == blake3.blake3(page[:4064]).digest()
    assert path.read_bytes()[4096 + 2 * 20480 :] == record({1: 6, 2: 7, 1023: 7})


def cut(data: bytearray) -> bytearray:
    return data[:-4]


def cut_to_header(data: bytearray) -> bytearray:
    return data[:HEADER_SIZE]


def cut_short(data: bytearray) -> bytearray:
    return data[:100]


def empty(_: bytearray) -> bytearray:
    return bytearray()


def forget_a_record(data: bytearray) -> bytearray:
    data[HEADER_SIZE : HEADER_SIZE + RECORD_SIZE] = bytes(RECORD_SIZE)
    return data


def swap_records(data: bytearray) -> bytearray:
    size = HEADER_SIZE, HEADER_SIZE + RECORD_SIZE, HEADER_SIZE + 2 * RECORD_SIZE
    return data[: size[0]] + data[size[1] : size[2]] + data[size[0] : size[1]] + data[size[2] :]


def other_version(data: bytearray) -> bytearray:
    data[8] = 2
    data[4064:4096] = blake3.blake3(data[:4064]).digest()
    return data


@pytest.mark.parametrize("damage", [cut, cut_to_header, cut_short, empty, forget_a_record, swap_records, other_version])
def test_a_damaged_map_is_lost(path: Path, damage: Callable[[bytearray], bytearray]) -> None:
    path.write_bytes(damage(bytearray(path.read_bytes())))
    with pytest.raises(ChangeTrackingLost, match=r"disk\.map"):
        ChangeMap(path)


def test_any_flipped_bit_is_found(path: Path, seed: int) -> None:
    whole = path.read_bytes()
    chance = random.Random(seed)
    for _ in range(200):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with pytest.raises(ChangeTrackingLost):
            ChangeMap(path)


def test_a_missing_map_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ChangeTrackingLost, match="No such file"):
        ChangeMap(tmp_path / "none")
    with pytest.raises(ChangeTrackingLost, match="directory"):
        ChangeMap(tmp_path)


def test_only_pieces_that_differ_get_the_new_generation() -> None:
    before = record({0: 5, 3: 7, 9: 1})
    assert updated(before, before[:DIGESTS_SIZE], 8) is before
    digests = bytearray(before[:DIGESTS_SIZE])
    digests[3 * DIGEST_SIZE : 4 * DIGEST_SIZE] = b"x" * DIGEST_SIZE
    digests[9 * DIGEST_SIZE : 10 * DIGEST_SIZE] = bytes(DIGEST_SIZE)
    after = updated(before, bytes(digests), 8)
    assert after[:DIGESTS_SIZE] == bytes(digests)
    assert {i: g for i, g in enumerate(generations_of(after)) if g} == {0: 5, 3: 8, 9: 8}
