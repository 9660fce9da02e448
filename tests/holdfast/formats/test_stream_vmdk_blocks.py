"""What a stream says of itself, in markers and tables, has to fit what came; block by block, from streams made here."""

import struct
import zlib

import pytest

from holdfast.errors import FileDamaged, FormatUnknown, HoldfastError
from holdfast.formats.stream_vmdk import (
    DIRECTORY_AT_END,
    GRAIN_HEAD,
    GRAIN_SIZE,
    MARKER,
    SECTOR,
    TABLE_ENTRIES,
    MarkerKind,
    StreamDecoder,
    pack_header,
)

SIZE = 2 * GRAIN_SIZE
TWO_TABLES = 2 * TABLE_ENTRIES * GRAIN_SIZE
DATA = b"data" * (GRAIN_SIZE // 4)


def whole_sectors(content: bytes) -> bytes:
    return content + bytes(-len(content) % SECTOR)


def numbers(count: int, **places: int) -> bytes:
    """Return ``count`` numbers that are 0, but for those that are named by their index, as in ``_1``."""
    listed = [0] * count
    for index, place in places.items():
        listed[int(index[1:])] = place
    return struct.pack(f"<{count}I", *listed)


def table(**places: int) -> bytes:
    return numbers(TABLE_ENTRIES, **places)


def grain(number: int) -> bytes:
    packed = zlib.compress(DATA)
    return whole_sectors(GRAIN_HEAD.pack(number * GRAIN_SIZE // SECTOR, len(packed)) + packed)


def marked(kind: int, content: bytes = b"") -> bytes:
    """Return a marker and what it announces."""
    content = whole_sectors(content)
    return whole_sectors(MARKER.pack(len(content) // SECTOR, 0, kind)) + content


def footer(size: int = SIZE) -> bytes:
    return marked(MarkerKind.FOOTER, pack_header(size, SECTOR, 8))


# One grain, in sector 1; its table, in sectors 3 to 6; the directory, in sector 8.
HEADER = pack_header(SIZE, SECTOR, DIRECTORY_AT_END)
GRAIN = grain(0)
TABLE = marked(MarkerKind.TABLE, table(_0=1))
DIRECTORY = marked(MarkerKind.DIRECTORY, numbers(1, _0=3))
END = marked(MarkerKind.END)


def in_front(directory: int, tables: bytes, size: int = SIZE) -> bytes:
    """Return the beginning of a stream whose first grain is behind its tables, in sector 6 when there is one."""
    overhead = max(6 * SECTOR, SECTOR + len(tables))
    return (pack_header(size, overhead, directory) + tables).ljust(overhead, b"\0")


def offsets(stream: bytes, piece: int = SECTOR) -> list[int]:
    """Return where the grains of a stream begin that comes in pieces of this size."""
    decoder = StreamDecoder()
    grains = [grain for at in range(0, len(stream), piece) for grain in decoder.feed(stream[at : at + piece])]
    decoder.finish()
    assert decoder.header is not None
    assert decoder.known_end == decoder.header.capacity_bytes
    assert all(grain.unpack() == DATA for grain in grains)
    return [grain.offset for grain in grains]


@pytest.mark.parametrize("piece", [100, SECTOR, 1 << 20])
def test_a_stream_whose_blocks_fit_is_read(piece: int) -> None:
    assert offsets(HEADER + GRAIN + TABLE + DIRECTORY + footer() + END, piece) == [0]


def test_a_table_may_be_there_that_has_no_grains() -> None:
    blocks = [
        pack_header(TWO_TABLES, SECTOR, DIRECTORY_AT_END),
        grain(0),
        TABLE,
        marked(MarkerKind.TABLE, table()),
        marked(MarkerKind.DIRECTORY, numbers(2, _0=3, _1=8)),
        footer(TWO_TABLES),
        END,
    ]
    assert offsets(b"".join(blocks)) == [0]


@pytest.mark.parametrize(
    "blocks, reason",
    [
        (GRAIN_HEAD.pack(0, 2 * GRAIN_SIZE + 1).ljust(SECTOR, b"\0"), "has 131073 deflated bytes"),
        (GRAIN + marked(4), "the marker at sector 2 is of the unknown kind 4"),
        (GRAIN + marked(MarkerKind.TABLE), "the marker at sector 2 announces 0 bytes instead of 2048"),
        (GRAIN + marked(MarkerKind.FOOTER, bytes(2 * SECTOR)), "announces 1024 bytes instead of 512"),
        (GRAIN + marked(MarkerKind.TABLE, table(_0=2)), "the table at sector 3 lists 1 grains, 1 came"),
        (GRAIN + marked(MarkerKind.TABLE, table(_0=1, _1=2)), "the table at sector 3 lists 2 grains, 1 came"),
        (marked(MarkerKind.TABLE, table(_0=1)), "lists 1 grains, 0 came"),
        (GRAIN + marked(MarkerKind.DIRECTORY, numbers(1)), "the directory comes before a table of 1 grains"),
        (GRAIN + TABLE + marked(MarkerKind.TABLE, table()), "more than the 1 tables of its disk"),
        (GRAIN + TABLE + marked(MarkerKind.DIRECTORY, numbers(1)), "the directory lists 0 tables, 1 came"),
        (GRAIN + TABLE + marked(MarkerKind.DIRECTORY, numbers(1, _0=4)), "the directory lists 1 tables, 1 came"),
        (DIRECTORY, "the directory lists 1 tables, 0 came"),
        (GRAIN + TABLE + footer(), "the footer at sector 8 comes without a directory before it"),
        (GRAIN + TABLE + DIRECTORY + footer(SIZE + SECTOR), "the footer states another capacity than the header"),
        (GRAIN + TABLE + DIRECTORY + END, "the stream ends at sector 9 without a footer"),
        (GRAIN + TABLE + DIRECTORY + footer(), "the stream ends in its middle, after 5632 bytes"),
    ],
)
def test_blocks_that_do_not_fit_what_came_are_damage(blocks: bytes, reason: str) -> None:
    with pytest.raises(FileDamaged, match=reason):
        offsets(HEADER + blocks)


def test_a_grain_that_is_not_deflated_is_damage() -> None:
    decoder = StreamDecoder()
    (found,) = decoder.feed(HEADER + GRAIN_HEAD.pack(0, 20).ljust(SECTOR, b"\0"))
    with pytest.raises(FileDamaged, match="the grain at offset 0 cannot be unpacked"):
        found.unpack()


def test_a_footer_that_is_no_header_is_refused() -> None:
    with pytest.raises(FormatUnknown, match="the magic number is missing"):
        offsets(HEADER + GRAIN + TABLE + DIRECTORY + marked(MarkerKind.FOOTER, bytes(SECTOR)))


# -------------------------------------------------------------------------------------------------- tables in front

PLACED = whole_sectors(numbers(1, _0=2))
"""A directory of one table, which is in sectors 2 to 5."""


@pytest.mark.parametrize(
    "stream, expected",
    [
        (in_front(1, PLACED + table(_0=6)) + grain(0), [0]),
        (in_front(1, PLACED + table(_0=6, _1=7)) + grain(0) + grain(1), [0, GRAIN_SIZE]),
        (in_front(1, PLACED + table()), []),
        (in_front(1, b""), []),
        (
            in_front(1, whole_sectors(numbers(2, _1=2)) + table(_0=6), TWO_TABLES) + grain(TABLE_ENTRIES),
            [TWO_TABLES // 2],
        ),
        (
            in_front(1, whole_sectors(numbers(2, _0=2, _1=6)) + table(_0=10) + table(_0=11), TWO_TABLES)
            + grain(0)
            + grain(TABLE_ENTRIES),
            [0, TWO_TABLES // 2],
        ),
    ],
    ids=["a grain", "two grains", "an empty table", "no table", "a second table only", "grains of two tables"],
)
def test_a_stream_with_tables_in_front_ends_with_the_last_grain_they_list(stream: bytes, expected: list[int]) -> None:
    assert offsets(stream) == expected


@pytest.mark.parametrize(
    "stream",
    [
        in_front(1, PLACED + table(_0=6)),
        in_front(1, PLACED + table())[:-SECTOR],
        in_front(1, PLACED + table(_0=6, _1=7)) + grain(0),
    ],
    ids=["without its grain", "cut in its tables", "without its last grain"],
)
def test_a_stream_with_tables_in_front_is_not_whole_before_their_grains_came(stream: bytes) -> None:
    with pytest.raises(FileDamaged, match="ends in its middle"):
        offsets(stream)


@pytest.mark.parametrize(
    "start, error, reason",
    [
        (in_front(6, b""), FileDamaged, "a table at byte 3072 has its end behind the first grain"),
        (in_front(1, whole_sectors(numbers(1, _0=3))), FileDamaged, "a table at byte 1536 has its end behind"),
        (in_front(1 << 40, b""), FileDamaged, "has its end behind the first grain"),
        (pack_header(SIZE, (64 << 20) + SECTOR, 1), FormatUnknown, "tables of 67109376 bytes in front, too many"),
    ],
    ids=["directory behind content", "table ends in content", "directory far away", "more than is looked at"],
)
def test_tables_that_are_not_in_front_as_said_are_refused(
    start: bytes, error: type[HoldfastError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        offsets(start)
