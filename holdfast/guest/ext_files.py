"""Folders and files of ext2, ext3 and ext4: names to inodes, inodes to blocks by extents or by the older block maps."""

import struct
from collections.abc import Iterator

from holdfast.guest.checksums import crc32c
from holdfast.guest.ext import Ext
from holdfast.guest.file_tree import FOLDER_MAX, Entry, Extent, Kind, spans_of
from holdfast.guest.window import Implausible
from holdfast.model.spans import Span

_ROOT = 2
_KINDS = {0x8000: Kind.FILE, 0x4000: Kind.FOLDER}
_ENTRY_KINDS = {1: Kind.FILE, 2: Kind.FOLDER}
_UNKNOWN_KIND = 0
_EXTENTS, _INLINE, _COMPRESSED, _VALUE_OF_ANOTHER = 0x80000, 0x10000000, 0x4, 0x200000
_HAS_INDEX = 0x1000
"""The folder has an index: its first block holds the root of that, and no names of others."""
_INCOMPAT_FILE_TYPE = 0x2

_EXTENTS_MAGIC = 0xF30A
_DEPTH_MAX = 5
_UNWRITTEN = 1 << 15
_TREE = struct.Struct("<HHHH")
_EXTENT = struct.Struct("<IHHI")
_INDEX = struct.Struct("<IIH2x")
_RECORD_SIZE = 12

_MAP_AT, _MAP_SIZE = 40, 60
_DIRECT = 12

_NAME = struct.Struct("<IHBB")
_TAIL = struct.Struct("<IHBBI")
_TAIL_MARK = (0, 12, 0, 0xDE)


class ExtFiles:
    """The files of one file system; see `holdfast.guest.file_tree.FileTree`."""

    root = _ROOT
    is_caseless = False

    def __init__(self, volume: Ext) -> None:
        self._ext = volume
        self._has_kinds = bool(volume.incompat & _INCOMPAT_FILE_TYPE)

    def entries(self, folder: int) -> Iterator[Entry]:
        """Yield what is in a folder; nothing of one that is so small that it stands in its inode."""
        inode = self._ext.inode(folder)
        if _kind(inode) is not Kind.FOLDER or _flags(inode) & _INLINE:
            return
        size = self._ext.block_size
        left = min(_size(inode), FOLDER_MAX) // size
        for extent in self._extents(folder, inode):
            for step in range(extent.length):
                if left <= 0:
                    return
                left -= 1
                if extent.logical + step or not _flags(inode) & _HAS_INDEX:
                    yield from self._names(self._ext.block(extent.block + step), folder, inode)

    def content(self, entry: Entry, *, is_gapless: bool = False) -> list[Span]:
        """Return where the bytes of a file are; see `holdfast.guest.file_tree.FileTree`."""
        inode = self._ext.inode(entry.node)
        if _kind(inode) is not Kind.FILE or _names_of(inode) != 1:
            return []
        if _flags(inode) & (_INLINE | _COMPRESSED | _VALUE_OF_ANOTHER):
            return []
        extents = self._extents(entry.node, inode)
        return spans_of(extents, self._ext.block_size, self._ext.blocks, is_gapless=is_gapless)

    def _names(self, data: bytes, folder: int, inode: bytes) -> Iterator[Entry]:
        """Yield the names in a block; none of one that belongs to the index and has a checksum of another kind."""
        if data[:4] == bytes(4) and _NAME.unpack_from(data)[1] in (len(data) & 0xFFFF, 0xFFFF):
            return
        self._check_names(data, self._seed(folder, inode))
        at = 0
        while at + _NAME.size <= len(data):
            node, length, name_length, kind = _NAME.unpack_from(data, at)
            if not self._has_kinds:
                kind = _UNKNOWN_KIND
            if length in (0, 0xFFFF):
                length = 1 << 16
            if length < _NAME.size + name_length or length % 4 or at + length > len(data):
                raise Implausible("a folder is damaged")
            name = data[at + _NAME.size : at + _NAME.size + name_length]
            at += length
            if not node or name in (b"", b".", b".."):
                continue
            found = _kind(self._ext.inode(node)) if kind == _UNKNOWN_KIND else _ENTRY_KINDS.get(kind, Kind.OTHER)
            yield Entry(name.decode("utf-8", "surrogateescape"), node, found)

    def _check_names(self, data: bytes, seed: int) -> None:
        """Raise `Implausible` for a block of names that does not match the checksum at its end."""
        if not self._ext.has_crc32c or _TAIL.unpack_from(data, len(data) - _TAIL.size)[:4] != _TAIL_MARK:
            return
        if crc32c(data[: -_TAIL.size], seed) != int.from_bytes(data[-4:], "little"):
            raise Implausible("a folder does not match its checksum")

    # -- runs ----------------------------------------------------------------------------------------------------

    def _extents(self, number: int, inode: bytes) -> Iterator[Extent]:
        area = inode[_MAP_AT : _MAP_AT + _MAP_SIZE]
        if _flags(inode) & _EXTENTS:
            yield from self._tree(area, self._seed(number, inode), None)
        else:
            yield from self._map(area, -(-_size(inode) // self._ext.block_size))

    def _tree(self, data: bytes, seed: int, expected: int | None) -> Iterator[Extent]:
        """Yield the extents below a node of the tree; each level is one less deep than the one above."""
        magic, count, most, depth = _TREE.unpack_from(data)
        if magic != _EXTENTS_MAGIC or count > most or depth > _DEPTH_MAX or expected not in (None, depth):
            raise Implausible("the extents of a file are damaged")
        end = _RECORD_SIZE * (most + 1)
        is_checked = expected is not None and self._ext.has_crc32c and end + 4 <= len(data)
        if is_checked and crc32c(data[:end], seed) != int.from_bytes(data[end : end + 4], "little"):
            raise Implausible("the extents of a file do not match their checksum")
        for at in range(_RECORD_SIZE, _RECORD_SIZE * (count + 1), _RECORD_SIZE):
            if depth:
                _, low, high = _INDEX.unpack_from(data, at)
                yield from self._tree(self._ext.block(high << 32 | low), seed, depth - 1)
                continue
            logical, length, high, low = _EXTENT.unpack_from(data, at)
            yield Extent(logical, high << 32 | low, length - _UNWRITTEN if length > _UNWRITTEN else length)

    def _map(self, area: bytes, blocks: int) -> Iterator[Extent]:
        """Yield the blocks of a file that has no extents: twelve of their own, then maps of one to three levels."""
        pointers = struct.unpack("<15I", area)
        logical = 0
        for slot, pointer in enumerate(pointers):
            if logical >= blocks:
                return
            level = max(0, slot - _DIRECT + 1)
            yield from self._mapped(pointer, level, logical, blocks)
            logical += (self._ext.block_size // 4) ** level

    def _mapped(self, pointer: int, level: int, logical: int, blocks: int) -> Iterator[Extent]:
        if not pointer:
            return
        if not level:
            yield Extent(logical, pointer, 1)
            return
        step = (self._ext.block_size // 4) ** (level - 1)
        for (inner,) in struct.iter_unpack("<I", self._ext.block(pointer)):
            if logical >= blocks:
                return
            yield from self._mapped(inner, level - 1, logical, blocks)
            logical += step

    def _seed(self, number: int, inode: bytes) -> int:
        return crc32c(inode[100:104], crc32c(number.to_bytes(4, "little"), self._ext.seed))


def _kind(inode: bytes) -> Kind:
    return _KINDS.get(int.from_bytes(inode[:2], "little") & 0xF000, Kind.OTHER)


def _size(inode: bytes) -> int:
    return int.from_bytes(inode[4:8], "little") | int.from_bytes(inode[108:112], "little") << 32


def _names_of(inode: bytes) -> int:
    return int.from_bytes(inode[26:28], "little")


def _flags(inode: bytes) -> int:
    return int.from_bytes(inode[32:36], "little")
