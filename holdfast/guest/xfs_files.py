"""Folders and files of XFS: names to inodes, inodes to blocks by lists of extents or by trees."""

import struct
from collections.abc import Iterator

from holdfast.guest.file_tree import FOLDER_MAX, Entry, Extent, Kind, spans_of
from holdfast.guest.window import Implausible
from holdfast.guest.xfs import Inode, Xfs
from holdfast.model.spans import Span

_KINDS = {0x8000: Kind.FILE, 0x4000: Kind.FOLDER}
_ENTRY_KINDS = {1: Kind.FILE, 2: Kind.FOLDER}
_LOCAL, _LIST, _TREE = 1, 2, 3
_REALTIME = 0x1
_SHARED = 0x2

_EXTENT_SIZE = 16
_TREE_LEVELS_MAX = 9
_TREE_HEAD = struct.Struct(">4sHH")

_LEAF_SPACE = 32 << 30
"""Where in a folder its names end and what finds them quickly begins."""
_MAGICS = (b"XD2B", b"XD2D", b"XDB3", b"XDD3")
_BLOCK_MAGICS = (b"XD2B", b"XDB3")
_UNUSED = b"\xff\xff"
_GRAIN = 8


class XfsFiles:
    """The files of one file system; see `holdfast.guest.file_tree.FileTree`."""

    is_caseless = False

    def __init__(self, volume: Xfs) -> None:
        self._xfs = volume
        self.root = volume.root_inode

    def entries(self, folder: int) -> Iterator[Entry]:
        """Yield what is in a folder."""
        inode = self._xfs.inode(folder)
        if _kind(inode) is not Kind.FOLDER:
            return
        if inode.format == _LOCAL:
            yield from self._short(inode)
            return
        size = self._xfs.folder_block_size
        per_block = size // self._xfs.block_size
        end = min(_LEAF_SPACE, FOLDER_MAX) // self._xfs.block_size
        pending: list[int] = []
        for extent in self._extents(inode):
            for step in range(extent.length):
                if extent.logical + step >= end:
                    return
                pending.append(extent.block + step)
                if len(pending) == per_block:
                    data = b"".join(self._xfs.block(block) for block in pending)
                    pending = []
                    yield from self._names(data, folder)

    def content(self, entry: Entry, *, is_gapless: bool = False) -> list[Span]:
        """Return where the bytes of a file are; see `holdfast.guest.file_tree.FileTree`."""
        inode = self._xfs.inode(entry.node)
        if _kind(inode) is not Kind.FILE or inode.names != 1 or inode.format not in (_LIST, _TREE):
            return []
        if inode.flags & _REALTIME or inode.more_flags & _SHARED:
            return []
        extents = self._extents(inode)
        return spans_of(extents, self._xfs.block_size, self._xfs.blocks, is_gapless=is_gapless)

    # -- folders -------------------------------------------------------------------------------------------------

    def _short(self, inode: Inode) -> Iterator[Entry]:
        """Yield the names of a folder that stands in its inode."""
        data = inode.fork
        count, wide = data[0], data[1]
        width = 8 if wide else 4
        at = 2 + width
        for _ in range(count):
            length = data[at]
            name = data[at + 3 : at + 3 + length]
            at += 3 + length
            kind = data[at] if self._xfs.has_kinds else 0
            at += int(self._xfs.has_kinds)
            node = int.from_bytes(data[at : at + width], "big")
            if at + width > len(data):
                raise Implausible("a folder is damaged")
            at += width
            yield self._entry(name, node, kind)

    def _names(self, data: bytes, folder: int) -> Iterator[Entry]:
        """Yield the names in a block of a folder."""
        if data[:4] not in _MAGICS:
            raise Implausible("a folder is damaged")
        at, end = self._xfs.check_folder_block(data), len(data)
        if data[:4] in _BLOCK_MAGICS:
            end -= 8 + 8 * int.from_bytes(data[-8:-4], "big")
        while at < end:
            if data[at : at + 2] == _UNUSED:
                length = int.from_bytes(data[at + 2 : at + 4], "big")
                if length < _GRAIN or length % _GRAIN:
                    raise Implausible("a folder is damaged")
                at += length
                continue
            node, length = int.from_bytes(data[at : at + 8], "big"), data[at + 8]
            name = data[at + 9 : at + 9 + length]
            kind = data[at + 9 + length] if self._xfs.has_kinds else 0
            at += -(-(11 + length + int(self._xfs.has_kinds)) // _GRAIN) * _GRAIN
            if at > end or not length:
                raise Implausible("a folder is damaged")
            if name not in (b".", b"..") and node != folder:
                yield self._entry(name, node, kind)

    def _entry(self, name: bytes, node: int, kind: int) -> Entry:
        found = _ENTRY_KINDS.get(kind, Kind.OTHER) if kind else _kind(self._xfs.inode(node))
        return Entry(name.decode("utf-8", "surrogateescape"), node, found)

    # -- runs ----------------------------------------------------------------------------------------------------

    def _extents(self, inode: Inode) -> Iterator[Extent]:
        if inode.format == _LIST:
            if inode.extents * _EXTENT_SIZE > len(inode.fork):
                raise Implausible("the extents of a file are damaged")
            yield from self._listed(inode.fork[: inode.extents * _EXTENT_SIZE])
        elif inode.format == _TREE:
            level, count = struct.unpack_from(">HH", inode.fork)
            most = (len(inode.fork) - 4) // 16
            if not 0 < level <= _TREE_LEVELS_MAX or count > most:
                raise Implausible("the extents of a file are damaged")
            yield from self._below(inode.fork, 4 + 8 * most, count, level)

    def _below(self, data: bytes, at: int, count: int, level: int) -> Iterator[Extent]:
        """Yield the extents below a node whose pointers begin at a place."""
        for (pointer,) in struct.iter_unpack(">Q", data[at : at + 8 * count]):
            block = self._xfs.block(self._xfs.place(pointer))
            head = self._xfs.check_map_block(block)
            magic, found, inner = _TREE_HEAD.unpack_from(block)
            most = (len(block) - head) // 16
            if magic != self._xfs.map_magic or found != level - 1 or inner > most:
                raise Implausible("the extents of a file are damaged")
            if found:
                yield from self._below(block, head + 8 * most, inner, found)
            else:
                yield from self._listed(block[head : head + _EXTENT_SIZE * inner])

    def _listed(self, data: bytes) -> Iterator[Extent]:
        for high, low in struct.iter_unpack(">QQ", data):
            logical = high >> 9 & (1 << 54) - 1
            block = (high & 0x1FF) << 43 | low >> 21
            yield Extent(logical, self._xfs.place(block), low & (1 << 21) - 1)


def _kind(inode: Inode) -> Kind:
    return _KINDS.get(inode.mode & 0xF000, Kind.OTHER)
