"""Table pages against plain dictionaries: every small page, random large ones, and bytes laid out by hand."""

import random
import struct
from array import array
from collections.abc import Callable, Iterator
from itertools import groupby, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import DataDamaged
from holdfast.formats import pages
from holdfast.formats.magic import NEVER_WRITTEN, PIECES_PER_PAGE, UNITS_PER_PAGE
from holdfast.formats.pages import (
    DIRECTORY_SIZE,
    MapRuns,
    PieceRuns,
    Ref,
    UnitEntry,
    digests_page,
    empty_units_page,
    get_ref,
    get_unit,
    put_ref,
    put_unit,
    units_page,
)

# ------------------------------------------------------------------------------------------------------ directories


def test_a_directory_names_what_was_put_into_it(seed: int) -> None:
    rng = random.Random(seed)
    directory, expected = bytearray(DIRECTORY_SIZE), dict[int, Ref]()
    for _ in range(800):
        index = rng.randrange(512)
        if rng.random() < 0.3:
            put_ref(directory, index, None)
            expected.pop(index, None)
        else:
            expected[index] = Ref(rng.randrange(1 << 64), rng.randrange(1, 1 << 32), rng.randbytes(16))
            put_ref(directory, index, expected[index])
    assert len(directory) == DIRECTORY_SIZE == 512 * 28
    assert {index: ref for index in range(512) if (ref := get_ref(directory, index))} == expected


def test_a_directory_entry_is_offset_length_digest() -> None:
    directory = bytearray(DIRECTORY_SIZE)
    put_ref(directory, 1, Ref(0x0102030405060708, 0x11121314, bytes(range(16))))
    assert directory[:28] == bytes(28)
    assert directory[28:56] == bytes.fromhex("0807060504030201 14131211") + bytes(range(16))
    put_ref(directory, 1, None)
    assert not any(directory)


def test_a_units_page_names_what_was_put_into_it(seed: int) -> None:
    rng = random.Random(seed)
    page, expected = empty_units_page(), dict[int, UnitEntry]()
    for _ in range(2000):
        index = rng.randrange(UNITS_PER_PAGE)
        if rng.random() < 0.3:
            put_unit(page, index, None)
            expected.pop(index, None)
        else:
            expected[index] = UnitEntry(rng.randrange(1 << 64), rng.randrange(1, 1 << 32), rng.randrange(1 << 32))
            put_unit(page, index, expected[index])
    assert len(page) == 1024 * 16
    assert {index: unit for index in range(1024) if (unit := get_unit(bytes(page), index))} == expected


def test_a_units_entry_is_offset_length_point() -> None:
    page = empty_units_page()
    put_unit(page, 1023, UnitEntry(0x0102030405060708, 0x11121314, 0x21222324))
    assert page[-16:] == bytes.fromhex("0807060504030201 14131211 24232221")
    put_unit(page, 1023, None)
    assert not any(page)


# ------------------------------------------------------------------------------------------------------ piece tables

Places = dict[int, int]


def piece_runs(places: Places) -> PieceRuns:
    runs = PieceRuns()
    for piece, place in sorted(places.items()):
        runs.append(piece, place)
    return runs


def all_places(runs: PieceRuns) -> Places:
    return {piece + at: place + at for piece, count, place in runs for at in range(count)}


def consecutive(places: Places, piece: int) -> tuple[int, int] | None:
    """Return what `PieceRuns.run_from` should."""
    if piece not in places:
        return None
    count = 1
    while places.get(piece + count) == places[piece] + count:
        count += 1
    return places[piece], count


def tiny_places() -> Iterator[Places]:
    for choice in product((None, 0, 1, 2, 9), repeat=5):
        yield {piece: place for piece, place in enumerate(choice) if place is not None}


def test_every_tiny_piece_table_finds_every_piece() -> None:
    for places in tiny_places():
        runs = piece_runs(places)
        assert all_places(runs) == places
        for piece in range(7):
            assert runs.find(piece) == places.get(piece)
            assert runs.run_from(piece) == consecutive(places, piece)


def test_every_tiny_piece_table_survives_encoding() -> None:
    for places in tiny_places():
        body = piece_runs(places).encode()
        decoded = PieceRuns.decode(body)
        assert all_places(decoded) == places
        assert (decoded.encode(), decoded.is_same(piece_runs(places))) == (body, True)


def test_every_tiny_piece_table_can_be_cut_anywhere() -> None:
    for places in tiny_places():
        for cut in range(7):
            runs = piece_runs(places)
            runs.truncate(cut)
            assert all_places(runs) == {piece: place for piece, place in places.items() if piece < cut}
            assert list(PieceRuns.decode(runs.encode())) == list(runs)
            runs.append(cut, 77)
            assert runs.find(cut) == 77


def test_consecutive_pieces_at_consecutive_places_are_one_run() -> None:
    runs = piece_runs({10: 5, 11: 6, 12: 7, 13: 9, 14: 10, 20: 11})
    assert list(runs) == [(10, 3, 5), (13, 2, 9), (20, 1, 11)]


def test_whole_runs_can_be_appended() -> None:
    runs = PieceRuns()
    runs.append(3, 100, 4)
    runs.append(7, 104, 2)
    runs.append(9, 0, 5)
    assert list(runs) == [(3, 6, 100), (9, 5, 0)]


def test_a_piece_table_is_laid_out_as_documented() -> None:
    body = piece_runs({2: 40, 3: 41, 4: 42, 10: 43, 11: 1}).encode()
    # Three runs; gaps 2, 5, 0; counts less one 2, 0, 0; jumps 40, 0, and from 44 back to 1.
    expected = struct.pack("<I3H3H3I", 3, 2, 5, 0, 2, 0, 0, 40, 0, (1 - 44) % (1 << 32))
    assert body == expected
    assert all_places(PieceRuns.decode(expected)) == {2: 40, 3: 41, 4: 42, 10: 43, 11: 1}


def test_an_empty_piece_table_is_a_count_of_zero() -> None:
    assert PieceRuns().encode() == bytes(4)
    assert list(PieceRuns.decode(bytes(4))) == []


@given(st.dictionaries(st.integers(0, PIECES_PER_PAGE - 1), st.integers(0, (1 << 32) - 1), max_size=40))
def test_any_piece_table_survives_encoding(places: Places) -> None:
    decoded = PieceRuns.decode(piece_runs(places).encode())
    assert all_places(decoded) == places
    for piece in places:
        assert decoded.run_from(piece) == consecutive(places, piece)


def test_the_widest_piece_tables_survive_encoding() -> None:
    whole = PieceRuns()
    whole.append(0, 0, PIECES_PER_PAGE)
    assert list(PieceRuns.decode(whole.encode())) == [(0, 65536, 0)]
    scattered = piece_runs({piece: (piece * 2654435761) % (1 << 32) for piece in range(PIECES_PER_PAGE)})
    body = scattered.encode()
    assert list(PieceRuns.decode(body)) == list(scattered)
    assert len(body) == 4 + 8 * PIECES_PER_PAGE
    last = piece_runs({65535: (1 << 32) - 1})
    assert PieceRuns.decode(last.encode()).find(65535) == (1 << 32) - 1


@pytest.mark.parametrize("piece", [0, 3, 4])
def test_a_piece_cannot_be_added_before_another(piece: int) -> None:
    runs = PieceRuns()
    runs.append(2, 0, 3)
    with pytest.raises(AssertionError, match=f"piece {piece} added behind piece 5"):
        runs.append(piece, 99)


def piece_page(*runs: tuple[int, int, int]) -> bytes:
    """Return a body from (gap, count less one, jump)."""
    columns = [[run[at] for run in runs] for at in range(3)]
    return struct.pack(f"<I{len(runs)}H{len(runs)}H{len(runs)}I", len(runs), *columns[0], *columns[1], *columns[2])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(3),
        bytes(5),
        struct.pack("<I", 1),
        struct.pack("<I", 0xFFFFFFFF),
        piece_page((0, 0, 0)) + b"\0",
        piece_page((0, 0, 0))[:-1],
        piece_page((1, 65535, 0)),
        piece_page((65535, 1, 0)),
        piece_page((0, 65535, 0), (0, 0, 0)),
        piece_page(*[(65535, 65535, 0)] * 40000),
    ],
    ids=range(11),
)
def test_a_damaged_piece_table_is_refused(body: bytes) -> None:
    with pytest.raises(DataDamaged):
        PieceRuns.decode(body)


# ------------------------------------------------------------------------------------------------------ maps

Writers = list[int]


def map_runs(writers: Writers) -> MapRuns:
    page = MapRuns()
    for writer, group in groupby(writers):
        page.append(writer, len(list(group)))
    return page


def runs_of(writers: Writers, start: int, end: int) -> list[tuple[int, int, int]]:
    """Return what `MapRuns.runs` should."""
    found, at = [], start
    for writer, group in groupby(writers[start:end]):
        count = len(list(group))
        found.append((at, count, writer))
        at += count
    return found


def tiny_maps() -> Iterator[Writers]:
    for length in range(7):
        for writers in product((0, 7, NEVER_WRITTEN), repeat=length):
            yield list(writers)


def test_every_tiny_map_knows_the_writer_of_every_piece() -> None:
    for writers in tiny_maps():
        page = map_runs(writers)
        assert page.covered == len(writers)
        assert [page.writer(piece) for piece in range(9)] == (writers + [NEVER_WRITTEN] * 9)[:9]


def test_every_tiny_map_gives_every_cut_of_its_runs() -> None:
    for writers in tiny_maps():
        page = map_runs(writers)
        for start, end in product(range(8), repeat=2):
            assert list(page.runs(start, end)) == runs_of(writers, start, end)


def test_every_tiny_map_survives_encoding() -> None:
    for writers in tiny_maps():
        decoded = MapRuns.decode(map_runs(writers).encode())
        assert decoded.covered == PIECES_PER_PAGE
        assert [decoded.writer(piece) for piece in range(len(writers))] == writers
        rest = list(decoded.runs(len(writers), PIECES_PER_PAGE))
        assert rest == [(len(writers), PIECES_PER_PAGE - len(writers), NEVER_WRITTEN)]


def test_every_tiny_map_can_be_cut_anywhere() -> None:
    for writers in tiny_maps():
        for cut in range(9):
            page = map_runs(writers)
            page.truncate(cut)
            assert list(page.runs(0, 9)) == runs_of(writers[:cut], 0, 9)
            assert page.covered == min(cut, len(writers))
            page.append(3, 2)
            assert list(page.runs(0, 11)) == runs_of([*writers[:cut], 3, 3], 0, 11)


def test_a_decoded_map_can_be_cut_and_goes_on() -> None:
    page = MapRuns.decode(map_runs([1, 1, 2]).encode())
    page.truncate(2)
    assert page.covered == 2
    page.append(9, 1)
    assert list(page.runs(0, PIECES_PER_PAGE)) == [(0, 2, 1), (2, 1, 9)]


def test_no_pieces_are_no_run() -> None:
    page = MapRuns()
    page.append(5, 0)
    assert page.covered == 0
    page.append(5, 1)
    page.append(5, 0)
    page.append(6, 0)
    assert list(page.runs(0, 9)) == [(0, 1, 5)]


def test_a_map_is_laid_out_as_documented() -> None:
    page = map_runs([4, 4, 4, NEVER_WRITTEN, 5])
    page.set_segment(0, bytes(range(16)))
    page.set_segment(63, bytes(range(100, 116)))
    segments = bytes(range(16)) + bytes(62 * 16) + bytes(range(100, 116))
    columns = struct.pack("<I4H4I", 4, 2, 0, 0, 65530, 4, 0xFFFFFFFF, 5, 0xFFFFFFFF)
    assert page.encode() == segments + columns
    decoded = MapRuns.decode(segments + columns)
    assert list(decoded.runs(0, 6)) == [(0, 3, 4), (3, 1, NEVER_WRITTEN), (4, 1, 5), (5, 1, NEVER_WRITTEN)]
    assert [decoded.segment(at) for at in (0, 1, 63)] == [bytes(range(16)), bytes(16), bytes(range(100, 116))]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9000)), max_size=30), st.data())
def test_any_map_survives_encoding(parts: list[tuple[int, int]], data: st.DataObject) -> None:
    writers = [writer for writer, count in parts for _ in range(count)][:PIECES_PER_PAGE]
    page = map_runs(writers)
    segments = data.draw(st.dictionaries(st.integers(0, 63), st.binary(min_size=16, max_size=16), max_size=5))
    for index, digest in segments.items():
        page.set_segment(index, digest)
    decoded = MapRuns.decode(page.encode())
    assert list(decoded.runs(0, len(writers))) == runs_of(writers, 0, len(writers))
    assert [decoded.segment(at) for at in range(64)] == [segments.get(at, bytes(16)) for at in range(64)]


def test_the_widest_maps_survive_encoding() -> None:
    for writers in ([7] * PIECES_PER_PAGE, [piece % 2 for piece in range(PIECES_PER_PAGE)]):
        body = map_runs(writers).encode()
        runs = len(runs_of(writers, 0, PIECES_PER_PAGE))
        assert len(body) == 64 * 16 + 4 + 6 * runs
        assert list(MapRuns.decode(body).runs(0, PIECES_PER_PAGE)) == runs_of(writers, 0, PIECES_PER_PAGE)


@pytest.mark.parametrize("covered", [0, 1, PIECES_PER_PAGE])
def test_a_map_cannot_run_over_its_page(covered: int) -> None:
    page = map_runs([1] * covered)
    with pytest.raises(AssertionError, match=r"map page runs to piece 65537"):
        page.append(1, PIECES_PER_PAGE - covered + 1)


def map_page(*runs: tuple[int, int]) -> bytes:
    """Return a body from (count less one, writer)."""
    counts, writers = [run[0] for run in runs], [run[1] for run in runs]
    return bytes(1024) + struct.pack(f"<I{len(runs)}H{len(runs)}I", len(runs), *counts, *writers)


def test_the_smallest_map_is_one_run() -> None:
    assert list(MapRuns.decode(map_page((65535, 3))).runs(0, PIECES_PER_PAGE)) == [(0, PIECES_PER_PAGE, 3)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(1024),
        bytes(1027),
        map_page(),
        map_page((65534, 1)),
        map_page((65535, 1), (0, 1)),
        map_page((65535, 1))[:-1],
        map_page((65535, 1)) + b"\0",
        bytes(1024) + b"\xff" * 4,
        map_page(*[(65535, 1)] * 70000),
    ],
    ids=range(10),
)
def test_a_damaged_map_is_refused(body: bytes) -> None:
    with pytest.raises(DataDamaged):
        MapRuns.decode(body)


# ------------------------------------------------------------------------------------------------------ byte order


def test_pages_are_the_same_on_a_host_with_the_other_byte_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretending the other order swaps each number of a column, and swaps it back when it is read."""
    piece_body, map_body = piece_page((1, 2, 3), (4, 5, 6)), map_page((65533, 258), (1, 772))
    pieces, writers = PieceRuns.decode(piece_body), MapRuns.decode(map_body)
    monkeypatch.setattr(pages, "_IS_LITTLE", False)
    swapped_pieces, swapped_map = pieces.encode(), writers.encode()
    assert swapped_pieces == piece_body[:4] + swapped(piece_body[4:12], "H") + swapped(piece_body[12:], "I")
    assert swapped_map == map_body[:1028] + swapped(map_body[1028:1032], "H") + swapped(map_body[1032:], "I")
    assert list(PieceRuns.decode(swapped_pieces)) == list(pieces)
    assert list(MapRuns.decode(swapped_map).runs(0, PIECES_PER_PAGE)) == list(writers.runs(0, PIECES_PER_PAGE))
    assert pieces.encode() == swapped_pieces


def swapped(column: bytes, code: str) -> bytes:
    numbers = array(code, column)
    numbers.byteswap()
    return numbers.tobytes()


@pytest.mark.parametrize("check", [units_page, digests_page])
def test_a_page_of_a_fixed_size_is_refused_at_any_other(check: Callable[[bytes], bytes]) -> None:
    whole = bytes(16384)
    assert check(whole) == whole
    for size in (0, 16383, 16385):
        with pytest.raises(DataDamaged, match="instead of 16384"):
            check(bytes(size))
