"""NTFS: free clusters from ``$Bitmap`` of a volume that was left in order, and the runs of its page files."""

import itertools
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property

from holdfast.guest.bitmaps import free_runs
from holdfast.guest.ntfs_records import (
    ATTRIBUTE_LIST,
    BITMAP,
    DATA,
    FILE_NAME,
    INDEX_ALLOCATION,
    INDEX_ROOT,
    VOLUME_INFORMATION,
    Attribute,
    Boot,
    Record,
    decode_entries,
    decode_index,
    decode_list,
    decode_record,
    file_name,
    with_fixups,
)
from holdfast.guest.window import Implausible, Window
from holdfast.model.spans import Span

_MFT, _LOG, _VOLUME, _ROOT, _BITMAP = 0, 2, 3, 5, 6
_HIBERNATION = "hiberfil.sys"
_PAGE_FILES = ("pagefile.sys", "swapfile.sys", _HIBERNATION)
_ASLEEP = (b"hibr", b"HIBR", b"RSTR")
_HEADER_KEPT = 64 << 10
"""Of a hibernation file: whoever starts the machine looks there whether it sleeps."""

_DIRTY = 0x4037
_RESTART = struct.Struct("<4sHHQIIHhh")
_RESTART_AREA = struct.Struct("<QHHHH")
_RESTART_PAGES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_NO_CLIENT = 0xFFFF
_WAS_CLOSED = 0x2

_SHADOW_AT = 0x1E00
_SHADOW_ID = bytes.fromhex("6b870838 76c1 484e b7ae 04046e6cc752")

_BITMAP_STEP = 64 << 10
_LIST_MAX = 1 << 20
_INDEX_MAX = 16 << 20
_EXTENSIONS_MAX = 4096
_RUNS_MAX = 8192


class Ntfs:
    """One volume. Raises `Implausible` when it is not one."""

    def __init__(self, volume: Window) -> None:
        self._volume = volume
        self.boot = Boot.decode(volume.read(0, 512))
        if self.boot.clusters * self.boot.cluster > volume.size:
            raise Implausible("it is larger than its volume")
        self._mft: tuple[tuple[int, int, int], ...] = ()
        base = decode_record(volume.read(self.boot.mft * self.boot.cluster, self.boot.record))
        # The first part of the table says where the rest of it is.
        self._mft = tuple(self.extents(next(base.find(DATA), None)))
        self._mft = tuple(extent for part in self.parts(_MFT, DATA) for extent in self.extents(part))
        if not self._mft or self._mft[0][:2] != (0, self.boot.mft):
            raise Implausible("its file table is not where its boot sector says")
        self._page_files = dict(self._find_page_files())

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def is_asleep(self) -> bool:
        """Return whether a hibernation file holds the memory of a machine that sleeps."""
        found = self._page_files.get(_HIBERNATION)
        if found is None:
            return False
        header = self._bytes(found, 0, min(_HEADER_KEPT, self.boot.cluster))[:4]
        return header in _ASLEEP

    def unclean_reason(self) -> str:
        """Return why ``$Bitmap`` may not be up to date or not the whole truth; empty when it is."""
        if self.is_asleep:
            return "the machine sleeps"
        information = next(self.record(_VOLUME).find(VOLUME_INFORMATION), None)
        if information is None or information.value is None or len(information.value) < 12:
            raise Implausible("its volume information is missing")
        if int.from_bytes(information.value[10:12], "little") & _DIRTY:
            return "it is marked as dirty"
        if self._has_shadow_copies():
            return "it has shadow copies, which hold on to blocks that no file has"
        return "" if self._log_is_closed() else "its log has to be replayed: it is in use, or was not unmounted"

    def _log_is_closed(self) -> bool:
        log = self.whole(_LOG, DATA)
        head = self._bytes(log, 0, min(_size(log), _RESTART_PAGES[-1] * 2))
        if head.count(0xFF) == len(head):
            return True  # never used, or emptied at the end of a use
        pages = [_restart(head, at) for at in (0, *_RESTART_PAGES) if head[at : at + 4] == b"RSTR"]
        if not pages or head[:4] not in (b"RSTR", b"\xff\xff\xff\xff"):
            return False
        newest = max(lsn for lsn, _ in pages)
        return all(is_closed for lsn, is_closed in pages if lsn == newest)

    def _has_shadow_copies(self) -> bool:
        header = self._volume.peek(_SHADOW_AT, 64)
        return header[:16] == _SHADOW_ID and any(header[48:56])

    # -- what is not needed ------------------------------------------------------------------------------------------

    def free_spans(self, least: int) -> Iterator[Span]:
        """Yield the free spans of the volume, in order; shorter ones than ``least`` bytes may be missing.

        Raises `Implausible` at the first contradiction; what came before is not to be used then.
        """
        boot = self.boot
        bitmap = self._bitmap
        size = -(-boot.clusters // 8)
        if _size(bitmap) < size:
            raise Implausible("its bitmap is too short")
        self.check_used([Span(0, 1), *(Span(lcn, count) for _, lcn, count in self._mft)])
        for at in range(0, size, _BITMAP_STEP):
            data = self._bitmap_bytes(at, min(_BITMAP_STEP, size - at))
            count = min(8 * len(data), boot.clusters - 8 * at)
            for start, length in free_runs(data, count, -(-least // boot.cluster)):
                yield Span((8 * at + start) * boot.cluster, length * boot.cluster)

    def swap_spans(self) -> Iterator[Span]:
        """Yield, sorted, the spans of the volume that hold page files; none when the machine sleeps.

        A file of that name that is not a plain one is passed over. Raises `Implausible` when one contradicts the
        bitmap.
        """
        if self.is_asleep:
            return
        found: list[Span] = []
        for name, parts in self._page_files.items():
            kept = _HEADER_KEPT if name == _HIBERNATION else 0
            skipped = -(-kept // self.boot.cluster)
            clusters = [
                Span(lcn + max(0, skipped - vcn), count - max(0, skipped - vcn))
                for part in parts
                for vcn, lcn, count in self.extents(part)
                if vcn + count > skipped
            ]
            self.check_used(clusters)
            found += clusters
        found.sort(key=lambda span: span.start)
        yield from (Span(span.start * self.boot.cluster, span.length * self.boot.cluster) for span in found)

    def check_used(self, clusters: list[Span]) -> None:
        """Raise `Implausible` when the bitmap calls one of these clusters free."""
        for span in clusters:
            at = span.start // 8
            while at * 8 < span.end:
                data = self._bitmap_bytes(at, min(_BITMAP_STEP, -(-span.end // 8) - at))
                low = max(span.start - 8 * at, 0)
                high = min(span.end - 8 * at, 8 * len(data))
                mask = (1 << high) - (1 << low)
                if int.from_bytes(data, "little") & mask != mask:
                    raise Implausible("its bitmap calls clusters free that a file has")
                at += len(data)

    def _find_page_files(self) -> Iterator[tuple[str, list[Attribute]]]:
        for number, sequence, name in self._entries_of_root():
            if name.lower() not in _PAGE_FILES:
                continue
            # A block of the index that is no longer used may speak of files that are gone.
            if self.record(number).sequence != sequence:
                continue
            names = [file_name(found.value) for found in self.parts(number, FILE_NAME) if found.value is not None]
            if (_ROOT, name) not in names:
                continue
            parts = self.whole(number, DATA)
            if all(part.value is None and part.is_plain for part in parts):
                yield name.lower(), parts

    def _entries_of_root(self) -> Iterator[tuple[int, int, str]]:
        for data in self._index_parts(_ROOT, only_used=False):
            yield from decode_entries(data)

    def index(self, folder: int) -> Iterator[tuple[int, bytes]]:
        """Yield record and name, as they stand in its index, of what is in a folder; nothing of what is none."""
        for data in self._index_parts(folder, only_used=True):
            yield from decode_index(data)

    def _index_parts(self, folder: int, *, only_used: bool) -> Iterator[bytes]:
        """Yield the parts of a folder's index: the root, and blocks, of which some may not be in use."""
        for root in self.parts(folder, INDEX_ROOT, "$I30"):
            if root.value is None or len(root.value) < 32:
                raise Implausible("the index of a folder is damaged")
            yield root.value[16:]
        blocks = list(self.parts(folder, INDEX_ALLOCATION, "$I30"))
        if not blocks:
            return
        extents = tuple(extent for part in blocks for extent in self.extents(part))
        used = b"".join(self._value(part) for part in self.parts(folder, BITMAP, "$I30")) if only_used else b""
        for number, at in enumerate(range(0, min(_size(blocks), _INDEX_MAX), self.boot.index)):
            if only_used and not (used[number // 8 : number // 8 + 1] or b"\0")[0] >> number % 8 & 1:
                continue
            block = self._read_extents(extents, at, self.boot.index)
            if block[:4] == b"INDX":
                yield with_fixups(block, b"INDX")[24:]

    @cached_property
    def _bitmap(self) -> list[Attribute]:
        return self.whole(_BITMAP, DATA)

    @cached_property
    def _bitmap_extents(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(extent for part in self._bitmap for extent in self.extents(part))

    def _bitmap_bytes(self, at: int, length: int) -> bytes:
        value = self._bitmap[0].value
        return self._read_extents(self._bitmap_extents, at, length) if value is None else value[at : at + length]

    # -- records and attributes ----------------------------------------------------------------------------------

    def record(self, number: int) -> Record:
        """Return a record of the file table. Raises `Implausible`."""
        at = number * self.boot.record
        return decode_record(self._read_extents(self._mft, at, self.boot.record))

    def parts(self, number: int, kind: int, name: str = "") -> Iterator[Attribute]:
        """Yield the parts of an attribute of a file, wherever its records are. Raises `Implausible`."""
        record = self.record(number)
        listed = next(record.find(ATTRIBUTE_LIST), None)
        if listed is None:
            yield from record.find(kind, name)
            return
        others: list[int] = []
        for entry_kind, entry_name, _, holder in decode_list(self._value(listed)):
            if (entry_kind, entry_name) == (kind, name) and holder not in others:
                others.append(holder)
        if len(others) > _EXTENSIONS_MAX:
            raise Implausible("a file has too many records")
        for holder in others:
            yield from (record if holder == number else self._extension(holder, number)).find(kind, name)

    def _extension(self, number: int, base: int) -> Record:
        """Return a further record of a file. Raises `Implausible`."""
        record = self.record(number)
        if record.base != base:
            raise Implausible("a record of its file table belongs to another file")
        return record

    def whole(self, number: int, kind: int) -> list[Attribute]:
        """Return all parts of an unnamed attribute, in order and without gaps. Raises `Implausible`."""
        parts = list(self.parts(number, kind))
        reached = 0
        for part in parts:
            if part.first != reached:
                raise Implausible("parts of a file are missing")
            reached += sum(count for _, count in part.runs)
        if not parts or sum(len(part.runs) for part in parts) > _RUNS_MAX:
            raise Implausible("a file has no content, or lies in too many pieces")
        return parts

    def _value(self, attribute: Attribute) -> bytes:
        if attribute.value is not None:
            return attribute.value
        if attribute.size > _LIST_MAX:
            raise Implausible("an attribute list is too long")
        return self._bytes([attribute], 0, attribute.size)

    def _bytes(self, parts: list[Attribute], at: int, length: int) -> bytes:
        """Return bytes of a plain attribute. Raises `Implausible`."""
        if parts[0].value is not None:
            return parts[0].value[at : at + length]
        extents = tuple(extent for part in parts for extent in self.extents(part))
        return self._read_extents(extents, at, length)

    def extents(self, part: Attribute | None) -> Iterator[tuple[int, int, int]]:
        """Yield cluster of the file, cluster of the volume, and count. Raises `Implausible`."""
        if part is None or part.value is not None or not part.is_plain:
            raise Implausible("a file of the system is not stored plainly")
        vcn = part.first
        for lcn, count in part.runs:
            if lcn is None or lcn + count > self.boot.clusters:
                raise Implausible("a file lies outside of its volume")
            yield vcn, lcn, count
            vcn += count

    def _read_extents(self, extents: tuple[tuple[int, int, int], ...], at: int, length: int) -> bytes:
        cluster, pieces, end = self.boot.cluster, [], at + length
        first = bisect_right(extents, at // cluster, key=lambda extent: extent[0])
        for vcn, lcn, count in itertools.islice(extents, max(0, first - 1), None):
            if vcn * cluster >= end:
                break
            low, high = max(at, vcn * cluster), min(end, (vcn + count) * cluster)
            if low < high:
                pieces.append(self._volume.read(lcn * cluster + low - vcn * cluster, high - low))
        data = b"".join(pieces)
        if len(data) != length:
            raise Implausible("a file ends too early")
        return data


def _size(parts: list[Attribute]) -> int:
    return len(parts[0].value) if parts[0].value is not None else parts[0].size


def _restart(log: bytes, at: int) -> tuple[int, bool]:
    """Return the position that a restart page speaks of, and whether the volume was closed there."""
    if at + _RESTART.size > len(log):
        return 0, False
    area = at + _RESTART.unpack_from(log, at)[6]
    if area + _RESTART_AREA.size > len(log):
        return 1 << 64, False
    lsn, _, _, in_use, flags = _RESTART_AREA.unpack_from(log, area)
    return lsn, in_use == _NO_CLIENT or bool(flags & _WAS_CLOSED)
