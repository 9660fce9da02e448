"""Tables: sparse arrays of pages inside one chain file (docs/formats/chain-file.md section 7).

`PageStore` reads pages, `TableReader` finds them, `TableWriter` replaces them by copy on write: a changed page is
written to fresh space, then its directories up to the top.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from holdfast.errors import DataDamaged, FileDamaged, FormatUnknown
from holdfast.formats.contents import Table
from holdfast.formats.digests import page_digest
from holdfast.formats.magic import DIRECTORY_ENTRIES, RecordKind
from holdfast.formats.pages import DIRECTORY_SIZE, Ref, get_ref, put_ref, refs_in
from holdfast.formats.record import RecordOpener
from holdfast.storage.files.atomic import FileHandle

_CACHED_PAGES = 256
_CACHED_BYTES = 4 << 20
"""Pages of runs have up to 768 KiB where single pieces of many points lie side by side; others have 16."""
_CACHED_LEAST = 4
"""So many pages stay, however large they are."""
T = TypeVar("T")


class PageStore:
    """Reads pages of one file, checks them against their refs, and keeps the last few decoded."""

    def __init__(self, handle: FileHandle, opener: RecordOpener, digest_key: bytes) -> None:
        self._handle = handle
        self._opener = opener
        self._digest_key = digest_key
        self._cache: OrderedDict[tuple[int, bytes, object], tuple[object, int]] = OrderedDict()
        """Decoded pages and of how many bytes they are."""
        self._cached_bytes = 0
        self._lock = threading.Lock()

    def body(self, ref: Ref, kind: RecordKind = RecordKind.PAGE) -> bytes:
        """Return the body of a page, or of a record of another kind. Raises `FileDamaged` naming file and offset."""
        place = f"{self._handle.path} at offset {ref.offset}"
        try:
            body = self._opener.page(self._handle.read(ref.offset, ref.length), kind)
        except (DataDamaged, FormatUnknown) as error:
            raise FileDamaged(f"page in {place} cannot be read: {error.message}") from error
        if page_digest(body, self._digest_key) != ref.digest:
            raise FileDamaged(f"page in {place} is not the page that belongs there")
        return body

    def record(self, ref: Ref) -> bytes:
        """Return a record as it is stored, unchecked."""
        return self._handle.read(ref.offset, ref.length)

    def decoded(self, ref: Ref, decode: Callable[[bytes], T]) -> T:
        """Return ``decode(body)``, from the cache when the page was decoded this way lately."""
        key = (ref.offset, ref.digest, decode)
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                return found[0]  # type: ignore[return-value] # the key holds the decoder, so the type is right
        body = self.body(ref)
        try:
            value = decode(body)
        except DataDamaged as error:
            raise FileDamaged(f"page in {self._handle.path} at offset {ref.offset}: {error.message}") from error
        with self._lock:
            self._keep(key, value, len(body))
        return value

    def _keep(self, key: tuple[int, bytes, object], value: object, size: int) -> None:
        cache = self._cache
        _, known = cache.pop(key, (None, 0))  # another thread may have read it meanwhile
        cache[key] = value, size
        self._cached_bytes += size - known
        while len(cache) > _CACHED_PAGES or (self._cached_bytes > _CACHED_BYTES and len(cache) > _CACHED_LEAST):
            _, (_, dropped) = cache.popitem(last=False)
            self._cached_bytes -= dropped


class TableReader(Generic[T]):
    """A table whose pages are read on demand."""

    def __init__(self, store: PageStore, table: Table, decode: Callable[[bytes], T]) -> None:
        self._store = store
        self._table = table
        self._decode = decode

    def page(self, index: int) -> T | None:
        """Return a page, or None when it is absent."""
        ref = self.ref(index)
        return None if ref is None else self._store.decoded(ref, self._decode)

    def ref(self, index: int) -> Ref | None:
        """Return where a page is, or None when it is absent."""
        depth, top = self._table.depth, self._table.top
        if top is None or index >= DIRECTORY_ENTRIES**depth:
            return None
        ref: Ref | None = top.ref
        while depth and ref is not None:
            depth -= 1
            directory = self._store.decoded(ref, _directory)
            ref = get_ref(directory, index // DIRECTORY_ENTRIES**depth % DIRECTORY_ENTRIES)
        return ref


def table_refs(store: PageStore, table: Table, seen: set[Ref] | None = None) -> Iterator[tuple[int | None, Ref]]:
    """Yield the refs of a table: those of pages with their index, those of directories with None.

    With ``seen``, which is added to, what was seen before is passed over with all that is below.
    """
    if table.top is not None:
        yield from _refs_below(store, (table.top.ref, table.depth, 0), seen)


def _refs_below(store: PageStore, top: tuple[Ref, int, int], seen: set[Ref] | None) -> Iterator[tuple[int | None, Ref]]:
    ref, depth, index = top
    if seen is not None:
        if ref in seen:
            return
        seen.add(ref)
    if depth == 0:
        yield index, ref
        return
    yield None, ref
    for entry, child in refs_in(store.decoded(ref, _directory)):
        yield from _refs_below(store, (child, depth - 1, index * DIRECTORY_ENTRIES + entry), seen)


class PageSink(Protocol):
    """What a table writer needs of the file it writes to."""

    def write_page(self, body: bytes, replaces: Ref | None) -> Ref:
        """Write a page to fresh space; the space of ``replaces`` becomes free two commits later."""
        ...


class TableWriter:
    """A table whose pages can be replaced. Holds its directories in memory: 28 bytes for each page."""

    def __init__(self, store: PageStore, sink: PageSink, table: Table) -> None:
        self._sink = sink
        self._depth = table.depth
        self._levels: list[dict[int, bytearray]] = []
        self._dirty: list[set[int]] = []
        self._top: Ref | None = table.top.ref if table.top else None
        self._store = store
        self._load(table)

    def _load(self, table: Table) -> None:
        # Level k holds the directories whose entries name tables of depth k; the top is level depth - 1.
        self._levels = [{} for _ in range(self._depth)]
        self._dirty = [set() for _ in range(self._depth)]
        if self._top is None:
            return
        refs = {0: self._top}
        for level in reversed(range(table.depth)):
            below: dict[int, Ref] = {}
            for index, ref in refs.items():
                directory = bytearray(self._store.decoded(ref, _directory))
                self._levels[level][index] = directory
                for entry in range(DIRECTORY_ENTRIES):
                    child = get_ref(directory, entry)
                    if child is not None and level:
                        below[index * DIRECTORY_ENTRIES + entry] = child
            refs = below

    def ref(self, index: int) -> Ref | None:
        """Return where a page is, or None when it is absent."""
        if index >= DIRECTORY_ENTRIES**self._depth:
            return None
        return self._top if self._depth == 0 else self._entry(0, index)

    def put(self, index: int, body: bytes) -> None:
        """Write a page and remember where it is."""
        self.put_ref(index, self._sink.write_page(body, self.ref(index)))

    def put_ref(self, index: int, ref: Ref) -> None:
        """Remember where a page is that was written already."""
        while index >= DIRECTORY_ENTRIES**self._depth:
            self._grow()
        if self._depth == 0:
            self._top = ref
        else:
            self._set_entry(0, index, ref)

    def flush(self) -> Table:
        """Write the directories that changed, lowest first, and return the table."""
        for level in range(self._depth):
            for index in sorted(self._dirty[level]):
                is_top = level == self._depth - 1
                replaced = self._top if is_top else self._entry(level + 1, index)
                ref = self._sink.write_page(bytes(self._levels[level][index]), replaced)
                if is_top:
                    self._top = ref
                else:
                    self._set_entry(level + 1, index, ref)
            self._dirty[level].clear()
        return Table.of(self._depth, self._top)

    def _grow(self) -> None:
        old_top = self._top
        self._levels.append({})
        self._dirty.append(set())
        self._depth += 1
        self._top = None
        if old_top is not None:
            self._set_entry(self._depth - 1, 0, old_top)

    def _entry(self, level: int, index: int) -> Ref | None:
        directory = self._levels[level].get(index // DIRECTORY_ENTRIES)
        return None if directory is None else get_ref(directory, index % DIRECTORY_ENTRIES)

    def _set_entry(self, level: int, index: int, ref: Ref) -> None:
        directory = self._levels[level].setdefault(index // DIRECTORY_ENTRIES, bytearray(DIRECTORY_SIZE))
        put_ref(directory, index % DIRECTORY_ENTRIES, ref)
        self._dirty[level].add(index // DIRECTORY_ENTRIES)


class PageCursor(Generic[T]):
    """The one page of a table that is being changed; moving to another page writes it."""

    def __init__(
        self,
        table: TableWriter,
        load: Callable[[Ref], T],
        make: Callable[[], T],
        encode: Callable[[T], bytes],
    ) -> None:
        self.table = table
        self._load = load
        self._make = make
        self._encode = encode
        self._index = -1
        self._page: T | None = None
        self._peeked: tuple[Ref, T] | None = None
        self._is_dirty = False

    def at(self, index: int) -> T:
        """Return the page, to be changed by the caller."""
        if index != self._index or self._page is None:
            self._write()
            ref = self.table.ref(index)
            self._page = self._make() if ref is None else self._load(ref)
            self._index = index
        self._is_dirty = True
        return self._page

    def peek(self, index: int) -> T | None:
        """Return a page to be looked at only, or None when it is absent."""
        if index == self._index:
            return self._page
        ref = self.table.ref(index)
        if ref is None:
            return None
        if self._peeked is None or self._peeked[0] != ref:
            self._peeked = (ref, self._load(ref))
        return self._peeked[1]

    def flush(self) -> Table:
        """Write the page as it is now, and return the table. The page stays open."""
        self._write()
        return self.table.flush()

    def _write(self) -> None:
        if self._page is not None and self._is_dirty:
            self.table.put(self._index, self._encode(self._page))
            self._is_dirty = False


def _directory(body: bytes) -> bytes:
    if len(body) != DIRECTORY_SIZE:
        raise DataDamaged(f"directory has {len(body)} bytes")
    return body
