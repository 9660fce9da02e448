"""Tables are sparse arrays of pages, replaced by copy on write."""

import random

import pytest

from holdfast.errors import FileDamaged
from holdfast.formats.contents import Table
from holdfast.formats.digests import page_digest
from holdfast.formats.keys import plain_keys
from holdfast.formats.magic import DIRECTORY_ENTRIES, Cipher
from holdfast.formats.pages import Ref
from holdfast.formats.record import RecordOpener, RecordSealer, Stamp
from holdfast.storage.chain_files.tables import PageCursor, PageStore, TableReader, TableWriter, table_refs
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.memory_file import new_file

KEYS = plain_keys(bytes(16))
MIB = 1 << 20


class Pages:
    """Writes pages to a file in memory and remembers what was replaced."""

    def __init__(self) -> None:
        self.handle = new_file(CrashFiles())
        self.store = PageStore(self.handle, RecordOpener(Cipher.NONE, KEYS.record_key), KEYS.digest_key)
        self.sealer = RecordSealer(Cipher.NONE, b"")
        self.replaced: list[Ref] = []
        self.written = 0

    def write_page(self, body: bytes, replaces: Ref | None) -> Ref:
        offset = self.handle.size()
        self.written += 1
        record = self.sealer.page(Stamp(1, self.written, 0, bytes(16), bytes(16)), body)
        self.handle.write(offset, record)
        if replaces is not None:
            self.replaced.append(replaces)
        return Ref(offset, sum(map(len, record[:-1])), page_digest(body, KEYS.digest_key))

    def reader(self, table: Table) -> TableReader[bytes]:
        return TableReader(self.store, table, bytes)


def test_a_table_gives_back_what_was_put_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    pages = Pages()
    table = Table()
    expected: dict[int, bytes] = {}
    for _ in range(6):
        writer = TableWriter(pages.store, pages, table)
        for _ in range(20):
            index = rng.choice([0, 1, 5, 511, 512, 513, 70_000, DIRECTORY_ENTRIES**2 - 1, DIRECTORY_ENTRIES**2 + 3])
            expected[index] = rng.randbytes(rng.randrange(1, 50))
            writer.put(index, expected[index])
        table = writer.flush()
        reader = pages.reader(table)
        assert {index: reader.page(index) for index in expected} == expected
        assert [reader.page(index) for index in (2, 510, 514, 69_999, DIRECTORY_ENTRIES**3)] == [None] * 5


def test_an_empty_table_has_no_pages() -> None:
    pages = Pages()
    table = TableWriter(pages.store, pages, Table()).flush()
    assert (table, pages.written) == (Table(), 0)
    assert pages.reader(table).page(0) is None


def test_a_flush_without_changes_writes_nothing() -> None:
    pages = Pages()
    writer = TableWriter(pages.store, pages, Table())
    writer.put(600, b"page")
    table = writer.flush()
    written = pages.written
    assert writer.flush() == table
    assert pages.written == written


def test_replaced_pages_and_directories_are_given_up_once_each() -> None:
    pages = Pages()
    writer = TableWriter(pages.store, pages, Table())
    for index in (0, 600):
        writer.put(index, b"old")
    writer.flush()
    pages.replaced.clear()
    writer.put(600, b"new")
    writer.flush()
    assert len(pages.replaced) == len(set(pages.replaced)) == 3, "a page, its directory, and the top"


def test_a_page_is_read_once_while_it_is_kept() -> None:
    pages = Pages()
    writer = TableWriter(pages.store, pages, Table())
    writer.put(0, b"page")
    reader = pages.reader(writer.flush())
    assert reader.page(0) is reader.page(0)


def kept(pages: Pages, refs: list[Ref]) -> list[bool]:
    """Return which pages are given back without a look at the file; their bytes in the file are gone then."""
    for ref in refs:
        pages.handle.write(ref.offset, [bytes(ref.length)])
    return [is_kept(pages, ref) for ref in refs]


def is_kept(pages: Pages, ref: Ref) -> bool:
    try:
        pages.store.decoded(ref, bytes)
    except FileDamaged:
        return False
    return True


def test_large_pages_are_kept_as_few_as_their_bytes_allow_and_small_ones_longer() -> None:
    pages = Pages()
    large = [pages.write_page(random.Random(number).randbytes(MIB), None) for number in range(20)]
    small = [pages.write_page(b"%d" % number, None) for number in range(20)]
    for ref in large:
        pages.store.decoded(ref, bytes)
    assert kept(pages, large) == [False] * 16 + [True] * 4
    for ref in small:
        pages.store.decoded(ref, bytes)
    assert kept(pages, small) == [True] * 20


def test_a_few_pages_are_kept_however_large_they_are() -> None:
    pages = Pages()
    huge = [pages.write_page(random.Random(number).randbytes(3 * MIB), None) for number in range(10)]
    for ref in huge:
        pages.store.decoded(ref, bytes)
    assert kept(pages, huge) == [False] * 6 + [True] * 4


def test_a_page_that_is_another_one_is_damage_with_its_place() -> None:
    pages = Pages()
    writer = TableWriter(pages.store, pages, Table())
    writer.put(0, b"one")
    ref = writer.ref(0)
    assert ref is not None
    other = pages.write_page(b"two", None)
    with pytest.raises(FileDamaged, match=f"at offset {other.offset} is not the page that belongs there"):
        pages.store.body(Ref(other.offset, other.length, ref.digest))
    with pytest.raises(FileDamaged, match=f"at offset {ref.offset} cannot be read"):
        pages.store.body(Ref(ref.offset, ref.length - 1, ref.digest))


def test_a_directory_of_a_wrong_size_is_damage() -> None:
    pages = Pages()
    ref = pages.write_page(b"not a directory", None)
    with pytest.raises(FileDamaged, match="directory has 15 bytes"):
        pages.reader(Table.of(1, ref)).page(0)


def test_a_cursor_writes_a_page_when_it_moves_on() -> None:
    pages = Pages()
    cursor = PageCursor(
        TableWriter(pages.store, pages, Table()), lambda ref: bytearray(pages.store.body(ref)), bytearray, bytes
    )
    cursor.at(0).extend(b"first")
    assert pages.written == 0
    assert cursor.peek(0) == bytearray(b"first")
    cursor.at(3).extend(b"third")
    assert pages.written == 1
    assert cursor.peek(0) == bytearray(b"first")
    assert cursor.peek(1) is None
    cursor.at(0).extend(b" again")
    reader = pages.reader(cursor.flush())
    assert [reader.page(index) for index in range(4)] == [b"first again", None, None, b"third"]


def test_a_flushed_page_stays_open_for_more() -> None:
    pages = Pages()
    cursor = PageCursor(TableWriter(pages.store, pages, Table()), lambda ref: bytearray(), bytearray, bytes)
    cursor.at(0).extend(b"one")
    cursor.flush()
    cursor.at(0).extend(b" two")
    assert pages.reader(cursor.flush()).page(0) == b"one two"


def test_all_pages_and_directories_of_a_table_are_found() -> None:
    pages = Pages()
    table = TableWriter(pages.store, pages, Table())
    wanted = [0, 3, DIRECTORY_ENTRIES - 1, DIRECTORY_ENTRIES + 7]
    for index in wanted:
        table.put(index, bytes([index % 251]))
    found = list(table_refs(pages.store, table.flush()))
    assert [index for index, _ in found if index is not None] == wanted
    assert sum(index is None for index, _ in found) == 3  # the top, and one for each half
    assert [table.ref(index) for index in wanted] == [ref for index, ref in found if index is not None]
    assert list(table_refs(pages.store, Table())) == []
