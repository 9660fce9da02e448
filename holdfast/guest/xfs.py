"""XFS: free blocks from the free-space trees of a file system whose log holds nothing.

Versions 4 and 5 of the format. The tree that is sorted by block number is read leaf by leaf; blocks that the trees
themselves have in reserve count as used.
"""

import struct
from collections.abc import Iterator

import msgspec

from holdfast.guest.checksums import crc32c
from holdfast.guest.window import Implausible, Window
from holdfast.guest.xfs_log import Log, log_unclean_reason
from holdfast.model.spans import Span

_SUPER = struct.Struct(">4sIQQQ16sQ")
_SUPER_CRC_AT = 224
_RO_KNOWN = 0x1 | 0x2 | 0x4 | 0x8
_INCOMPAT_KNOWN = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80
_INCOMPAT_KINDS, _INCOMPAT_META_UUID, _INCOMPAT_NEEDS_REPAIR = 0x1, 0x4, 0x10
_FEATURES2_KINDS = 0x200

_INODE = struct.Struct(">2sHBBH8xI")
_INODE_SIZES = (256, 512, 1024, 2048)
_INODE_CRC_AT, _INODE_NUMBER_AT, _INODE_UUID_AT = 100, 152, 160
_MANY_EXTENTS = 0x10

_AGF = struct.Struct(">4sIIIIIIIII4xIII")
_AGF_UUID_AT = 64
_AGF_CRC_AT = 216

_TREE = struct.Struct(">4sHHII")
_TREE_CRC_AT = 52
_TREE_LEVELS_MAX = 9
_RECORD = struct.Struct(">II")
_NO_BLOCK = 0xFFFFFFFF


class _Group(msgspec.Struct, frozen=True):
    """What the header of an allocation group says."""

    number: int
    length: int
    root: int
    levels: int
    free: int


class Inode(msgspec.Struct, frozen=True):
    """What an inode says of its file."""

    mode: int
    format: int
    names: int
    extents: int
    flags: int
    more_flags: int
    fork: bytes
    """What stands in the inode itself: names, extents, or the root of a tree of them."""


class Xfs:
    """One file system. Raises `Implausible` when its superblock is not one."""

    def __init__(self, volume: Window) -> None:
        self._volume = volume
        head = volume.read(0, 512)
        _, self.block_size, self.blocks, _, _, uuid, log_start = _SUPER.unpack_from(head)
        self._group_blocks, self._groups, _, log_blocks, version, self._sector = struct.unpack_from(">IIIIHH", head, 84)
        self.root_inode = int.from_bytes(head[56:64], "big")
        self._inode_size, self._inodes_per_block = struct.unpack_from(">HH", head, 104)
        self._inode_log, self._group_log = head[123], head[124]
        self.folder_block_size = self.block_size << min(head[192], 8)
        self.has_kinds = bool(int.from_bytes(head[200:204], "big") & _FEATURES2_KINDS)
        self._version = version & 15
        self._super = head
        self._check_measures()
        self._uuid = uuid
        self._incompat = 0
        if self._version == 5:
            self._read_features()
        self._log = Log(start=self._log_place(log_start), blocks=log_blocks * self.block_size // 512, uuid=uuid)

    def _check_measures(self) -> None:
        if self._version not in (4, 5) or self._super[126]:
            raise Implausible("its version is not known, or it was not finished")
        if self.block_size not in (1 << log for log in range(9, 17)) or self._sector not in (
            1 << log for log in range(9, 16)
        ):
            raise Implausible("its block size is not possible")
        if self.blocks * self.block_size > self._volume.size:
            raise Implausible("it is larger than its volume")
        if not (self._group_blocks and (self._groups - 1) * self._group_blocks < self.blocks):
            raise Implausible("its allocation groups do not fit its size")
        if self.blocks > self._groups * self._group_blocks:
            raise Implausible("its allocation groups do not fit its size")

    def _read_features(self) -> None:
        sector = self._volume.read(0, self._sector)
        if _crc(sector, _SUPER_CRC_AT) != struct.unpack_from("<I", sector, _SUPER_CRC_AT)[0]:
            raise Implausible("its superblock does not match its checksum")
        ro, self._incompat = struct.unpack_from(">II", sector, 212)
        if ro & ~_RO_KNOWN or self._incompat & ~_INCOMPAT_KNOWN:
            raise Implausible("it uses features that are not known here")
        self.has_kinds = bool(self._incompat & _INCOMPAT_KINDS)
        if self._incompat & _INCOMPAT_META_UUID:
            self._uuid = sector[248:264]

    def _log_place(self, block: int) -> int:
        """Return the first byte of the log; 0 when it is on another disk."""
        group, inside = block >> self._group_log, block & ((1 << self._group_log) - 1)
        return int(group * self._group_blocks + inside) * int(self.block_size)

    def unclean_reason(self) -> str:
        """Return why the trees may not be up to date; empty when they are."""
        if self._incompat & _INCOMPAT_NEEDS_REPAIR:
            return "it needs repair"
        if not self._log.start:
            return "its log is on another disk"
        return log_unclean_reason(self._volume, self._log)

    def inode(self, number: int) -> Inode:
        """Return an inode. Raises `Implausible`."""
        if self._inode_size not in _INODE_SIZES or self._inode_size << self._inode_log != self.block_size:
            raise Implausible("its inodes have no possible size")
        block, slot = number >> self._inode_log, number & ((1 << self._inode_log) - 1)
        data = self._volume.read(self.place(block) * self.block_size + slot * self._inode_size, self._inode_size)
        magic, mode, version, kind, _, names = _INODE.unpack_from(data)
        if magic != b"IN" or version not in (2, 3) or (version == 3) != (self._version == 5):
            raise Implausible(f"inode {number} is damaged")
        if version == 3:
            self._check(data, _INODE_CRC_AT, _INODE_UUID_AT, f"inode {number}")
            if int.from_bytes(data[_INODE_NUMBER_AT : _INODE_NUMBER_AT + 8], "big") != number:
                raise Implausible(f"inode {number} is another one")
        more_flags = int.from_bytes(data[120:128], "big") if version == 3 else 0
        extents = int.from_bytes(data[24:32] if more_flags & _MANY_EXTENTS else data[76:80], "big")
        core = 176 if version == 3 else 100
        end = core + 8 * data[82] if data[82] else self._inode_size
        flags = int.from_bytes(data[90:92], "big")
        return Inode(mode, kind, names, extents, flags, more_flags, data[core:end])

    def place(self, block: int) -> int:
        """Return which block of the volume a number of group and block in it means. Raises `Implausible`."""
        group, inside = block >> self._group_log, block & ((1 << self._group_log) - 1)
        if group >= self._groups or inside >= self._group_blocks:
            raise Implausible(f"it speaks of block {inside} of group {group}")
        return int(group * self._group_blocks + inside)

    def block(self, number: int) -> bytes:
        """Return a block of the volume. Raises `Implausible`."""
        return self._volume.read(number * self.block_size, self.block_size)

    @property
    def map_magic(self) -> bytes:
        """Return the mark of a block in the tree of a file's extents."""
        return b"BMA3" if self._version == 5 else b"BMAP"

    def check_folder_block(self, data: bytes) -> int:
        """Return where the names in a block of a folder begin. Raises `Implausible`."""
        if (data[3:4] == b"3") != (self._version == 5):
            raise Implausible("a folder is damaged")
        if self._version != 5:
            return 16
        self._check(data, 4, 24, "a folder")
        return 64

    def check_map_block(self, data: bytes) -> int:
        """Return where the records of such a block begin. Raises `Implausible`."""
        if self._version != 5:
            return 24
        self._check(data, 64, 40, "the tree of a file")
        return 72

    def free_spans(self, least: int) -> Iterator[Span]:
        """Yield the free spans of the volume, in order; shorter ones than ``least`` bytes may be missing.

        Raises `Implausible` at the first contradiction; what came before is not to be used then.
        """
        for number in range(self._groups):
            base = number * self._group_blocks
            group = self._group(number, min(self._group_blocks, self.blocks - base))
            reached = total = 0
            for start, count in self._records(group):
                if start < reached or count == 0 or start + count > group.length:
                    raise Implausible(f"the free space of group {number} overlaps or lies outside of it")
                reached = start + count
                total += count
                if count * self.block_size >= least or reached == group.length or start == 0:
                    yield Span((base + start) * self.block_size, count * self.block_size)
            if total != group.free:
                raise Implausible(f"the free space of group {number} is not what its header says")

    def _group(self, number: int, length: int) -> _Group:
        data = self._volume.read(number * self._group_blocks * self.block_size + self._sector, self._sector)
        magic, version, own, found, root, _, _, levels, _, _, _, _, free = _AGF.unpack_from(data)
        if (magic, version, own, found) != (b"XAGF", 1, number, length):
            raise Implausible(f"the header of group {number} is damaged")
        if self._version == 5:
            self._check(data, _AGF_CRC_AT, _AGF_UUID_AT, f"the header of group {number}")
        if not 0 < root < length or not 0 < levels <= _TREE_LEVELS_MAX or free > length:
            raise Implausible(f"the header of group {number} is damaged")
        return _Group(number, length, root, levels, free)

    def _records(self, group: _Group) -> Iterator[tuple[int, int]]:
        """Yield first block and length of the free runs of a group, leaf by leaf."""
        block = group.root
        for level in range(group.levels - 1, 0, -1):
            data, count, _ = self._tree_block(group, block, level)
            most = (self.block_size - self._tree_header) // 12
            if not 0 < count <= most:
                raise Implausible(f"the free-space tree of group {group.number} is damaged")
            block = int.from_bytes(data[(at := self._tree_header + 8 * most) : at + 4], "big")
        for _ in range(group.length):
            data, count, block = self._tree_block(group, block, 0)
            if self._tree_header + 8 * count > self.block_size:
                raise Implausible(f"the free-space tree of group {group.number} is damaged")
            yield from _RECORD.iter_unpack(data[self._tree_header : self._tree_header + 8 * count])
            if block == _NO_BLOCK:
                return
        raise Implausible(f"the free-space tree of group {group.number} has no end")

    def _tree_block(self, group: _Group, block: int, level: int) -> tuple[bytes, int, int]:
        """Return a block of the tree, its number of records, and its right neighbour."""
        if not 0 < block < group.length:
            raise Implausible(f"the free-space tree of group {group.number} leads outside of it")
        data = self._volume.read((group.number * self._group_blocks + block) * self.block_size, self.block_size)
        magic, found, count, _, right = _TREE.unpack_from(data)
        if magic != (b"AB3B" if self._version == 5 else b"ABTB") or found != level:
            raise Implausible(f"the free-space tree of group {group.number} is damaged")
        if self._version == 5:
            self._check(data, _TREE_CRC_AT, 32, f"the free-space tree of group {group.number}")
            if struct.unpack_from(">I", data, 48)[0] != group.number:
                raise Implausible(f"the free-space tree of group {group.number} belongs to another one")
        return data, count, right

    @property
    def _tree_header(self) -> int:
        return 56 if self._version == 5 else 16

    def _check(self, data: bytes, crc_at: int, uuid_at: int, what: str) -> None:
        if (
            struct.unpack_from("<I", data, crc_at)[0] != _crc(data, crc_at)
            or data[uuid_at : uuid_at + 16] != self._uuid
        ):
            raise Implausible(f"{what} does not match its checksum")


def _crc(data: bytes, at: int) -> int:
    """Return the checksum of a structure that holds it at ``at``."""
    return crc32c(data[at + 4 :], crc32c(bytes(4), crc32c(data[:at]))) ^ 0xFFFFFFFF
