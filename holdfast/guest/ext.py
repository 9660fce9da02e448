"""ext2, ext3 and ext4: free blocks from the block bitmaps of a file system that was left in order.

Names of the fields are those of the kernel's documentation, without their prefixes.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from holdfast.guest.bitmaps import free_count, free_runs
from holdfast.guest.checksums import crc16, crc32c
from holdfast.guest.window import Implausible, Window
from holdfast.model.spans import Span

_SUPER_AT = 1024
_SUPER_SIZE = 1024
_SUPER_CRC_AT = 1020
_BLOCK_SIZE_MAX = 64 << 10
_GROUPS_PER_FLEX_MAX = 1 << 16

_VALID, _ERRORS, _ORPHANS = 1, 2, 4
_COMPAT_JOURNAL, _COMPAT_SPARSE_SUPER2 = 0x4, 0x200
_INCOMPAT_RECOVER, _INCOMPAT_META_BG, _INCOMPAT_64BIT = 0x4, 0x10, 0x80
_INCOMPAT_FLEX_BG, _INCOMPAT_CSUM_SEED = 0x200, 0x2000
_INCOMPAT_KNOWN = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000
_RO_SPARSE_SUPER, _RO_GDT_CSUM, _RO_BIGALLOC, _RO_METADATA_CSUM = 0x1, 0x10, 0x200, 0x400
_RO_ORPHANS_PRESENT = 0x10000
_RO_KNOWN = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x1000 | 0x2000 | 0x8000 | 0x10000
_GROUP_UNINIT = 2

_JOURNAL_MAGIC = 0xC03B3998
_EXTENTS_MAGIC = 0xF30A


class _Group(msgspec.Struct, frozen=True):
    """What a group descriptor says."""

    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    free: int
    flags: int
    bitmap_crc: int


class Ext:
    """One file system. Raises `Implausible` when its superblock is not one."""

    def __init__(self, volume: Window) -> None:
        self._volume = volume
        self._super = volume.read(_SUPER_AT, _SUPER_SIZE)
        self._compat, self.incompat, self._ro = struct.unpack_from("<III", self._super, 92)
        if self.incompat & ~_INCOMPAT_KNOWN or self._ro & ~_RO_KNOWN:
            raise Implausible("it uses features that are not known here")
        self.has_crc32c = bool(self._ro & _RO_METADATA_CSUM)
        if self.has_crc32c and crc32c(self._super[:_SUPER_CRC_AT]) != self._u32(_SUPER_CRC_AT):
            raise Implausible("its superblock does not match its checksum")
        self._measure()
        self.seed = self._u32(0x270) if self.incompat & _INCOMPAT_CSUM_SEED else crc32c(self._super[104:120])
        self._flex_at = -1
        self._flex: list[tuple[int, int]] = []

    def _measure(self) -> None:
        block_log, cluster_log = self._u32(24), self._u32(28)
        if block_log > 6 or cluster_log > 20 or cluster_log < block_log:
            raise Implausible("its block size is not possible")
        self.block_size = 1024 << block_log
        self.cluster_blocks = 1 << (cluster_log - block_log)
        is_64bit = bool(self.incompat & _INCOMPAT_64BIT)
        self.blocks = self._u32(4) | (self._u32(336) << 32 if is_64bit else 0)
        self.first_block = self._u32(20)
        self.group_blocks, self._inodes_per_group = self._u32(32), self._u32(40)
        self._descriptor_size = self._u16(254) if is_64bit else 32
        self._inode_size = self._u16(88) if self._u32(76) else 128
        if self.blocks * self.block_size > self._volume.size or self.first_block > 1:
            raise Implausible("it is larger than its volume")
        if not 0 < self.group_blocks <= 8 * self.block_size * self.cluster_blocks:
            raise Implausible("its groups are larger than their bitmaps")
        if self.group_blocks % (8 * self.cluster_blocks) or self.blocks <= self.first_block:
            raise Implausible("its groups have no possible size")
        if self._descriptor_size not in (32, 64, 128, 256, 512, 1024) or not 128 <= self._inode_size <= self.block_size:
            raise Implausible("its descriptors or inodes have no possible size")
        self.groups = -(-(self.blocks - self.first_block) // self.group_blocks)
        self._per_block = self.block_size // self._descriptor_size
        self._table_blocks = -(-self._inodes_per_group * self._inode_size // self.block_size)

    def _u16(self, at: int) -> int:
        return int.from_bytes(self._super[at : at + 2], "little")

    def _u32(self, at: int) -> int:
        return int.from_bytes(self._super[at : at + 4], "little")

    def unclean_reason(self) -> str:
        """Return why the bitmaps may not be up to date; empty when they are."""
        if self.incompat & _INCOMPAT_RECOVER:
            return "its journal has to be replayed: it is mounted, or was not unmounted"
        state = self._u16(58)
        if state & _ERRORS or not state & _VALID:
            return "it is mounted, or has errors"
        if state & _ORPHANS or self._ro & _RO_ORPHANS_PRESENT:
            return "files wait to be removed"
        return "its journal holds changes" if self._journal_is_used() else ""

    def _journal_is_used(self) -> bool:
        """Return whether the journal says that it holds something, which a file system in order never does."""
        if not self._compat & _COMPAT_JOURNAL or self._u32(224) == 0 or self._super[253] != 1:
            return False
        backup = self._super[268 : 268 + 60]
        magic, _, _, depth = struct.unpack_from("<HHHH", backup)
        block = struct.unpack_from("<I", backup)[0]
        if magic == _EXTENTS_MAGIC:
            logical, _, high, low = struct.unpack_from("<IHHI", backup, 12)
            if depth or logical:
                return False  # the flag alone decides, as it does for the guest
            block = high << 32 | low
        header = self._volume.read(block * self.block_size, 32)
        return int.from_bytes(header[:4], "big") != _JOURNAL_MAGIC or int.from_bytes(header[28:32], "big") != 0

    def inode(self, number: int) -> bytes:
        """Return an inode. Raises `Implausible`."""
        if not 0 < number <= self._u32(0):
            raise Implausible(f"it speaks of inode {number}")
        index, slot = divmod(number - 1, self._inodes_per_group)
        if index >= self.groups:
            raise Implausible(f"inode {number} belongs to no group")
        table = self._group(index).inode_table
        raw = self._volume.read(table * self.block_size + slot * self._inode_size, self._inode_size)
        if self.has_crc32c and _inode_crc(raw, number, self.seed) != _stored_inode_crc(raw):
            raise Implausible(f"inode {number} does not match its checksum")
        return raw

    def block(self, number: int) -> bytes:
        """Return a block. Raises `Implausible`."""
        if not self.first_block <= number < self.blocks:
            raise Implausible(f"it speaks of block {number}")
        return self._volume.read(number * self.block_size, self.block_size)

    def free_spans(self, least: int) -> Iterator[Span]:
        """Yield the free spans of the volume, in order; shorter ones than ``least`` bytes may be missing.

        Raises `Implausible` at the first contradiction; what came before is not to be used then.
        """
        cluster = self.block_size * self.cluster_blocks
        for number in range(self.groups):
            first = self.first_block + number * self.group_blocks
            count = -(-min(self.group_blocks, self.blocks - first) // self.cluster_blocks)
            bitmap = self._bitmap(number, self._group(number), count)
            for start, length in free_runs(bitmap, count, -(-least // cluster)):
                end = min(first + (start + length) * self.cluster_blocks, self.blocks)
                begin = first + start * self.cluster_blocks
                yield Span(begin * self.block_size, (end - begin) * self.block_size)

    # -- groups --------------------------------------------------------------------------------------------------

    def _group(self, number: int) -> _Group:
        at, size = self._descriptor_place(number), self._descriptor_size
        raw = self._volume.read(at, size)
        self._check_descriptor(number, raw)
        block, inode, table, free = struct.unpack_from("<IIIH", raw)
        flags = int.from_bytes(raw[18:20], "little")
        crc = int.from_bytes(raw[24:26], "little")
        if size >= 64:
            high = struct.unpack_from("<IIIH", raw, 32)
            block, inode, table, free = (
                block | high[0] << 32,
                inode | high[1] << 32,
                table | high[2] << 32,
                free | high[3] << 16,
            )
            crc |= int.from_bytes(raw[56:58], "little") << 16
        if not self._ro & (_RO_GDT_CSUM | _RO_METADATA_CSUM):
            flags = 0  # without checksums the flags mean nothing
        return _Group(block, inode, table, free, flags, crc)

    def _descriptor_place(self, number: int) -> int:
        index, slot = divmod(number, self._per_block)
        block = self.first_block + 1 + index
        if self.incompat & _INCOMPAT_META_BG and index >= self._u32(260):
            group = index * self._per_block
            block = self.first_block + group * self.group_blocks + int(self._has_super(group))
            if group == 0 and self.block_size == 1024 and self.first_block == 0:
                block += 1
        return block * self.block_size + slot * self._descriptor_size

    def _check_descriptor(self, number: int, raw: bytes) -> None:
        stored = int.from_bytes(raw[30:32], "little")
        group = struct.pack("<I", number)
        if self.has_crc32c:
            found = crc32c(raw[:30] + bytes(2) + raw[32:], crc32c(group, self.seed)) & 0xFFFF
        elif self._ro & _RO_GDT_CSUM:
            found = crc16(raw[:30] + raw[32:], crc16(group, crc16(self._super[104:120])))
        else:
            return
        if found != stored:
            raise Implausible(f"the descriptor of group {number} does not match its checksum")

    def _bitmap(self, number: int, group: _Group, count: int) -> bytes:
        """Return the bitmap of a group, one bit a cluster. Raises `Implausible`."""
        if group.flags & _GROUP_UNINIT:
            return self._made_bitmap(number, group, count)
        if not self.first_block < group.block_bitmap < self.blocks:
            raise Implausible(f"group {number} has no bitmap")
        size = self.group_blocks // self.cluster_blocks // 8
        bitmap = self._volume.read(group.block_bitmap * self.block_size, size)
        if free_count(bitmap, count) != group.free:
            raise Implausible(f"the bitmap of group {number} and its descriptor do not agree")
        if self.has_crc32c:
            mask = 0xFFFFFFFF if self._descriptor_size >= 64 else 0xFFFF
            if _bitmap_crc(self.seed, bitmap) & mask != group.bitmap_crc & mask:
                raise Implausible(f"the bitmap of group {number} does not match its checksum")
        return bitmap

    def _made_bitmap(self, number: int, group: _Group, count: int) -> bytes:
        """Return the bitmap of a group that was never written: its metadata is used; all of it when in doubt."""
        first = self.first_block + number * self.group_blocks
        used = 0
        for start, length in [(first, self._super_blocks(number)), *self._flex_metadata(number, first)]:
            low, high = max(start, first), min(start + length, first + self.group_blocks)
            if low < high:
                begin, end = (low - first) // self.cluster_blocks, -(-(high - first) // self.cluster_blocks)
                used |= ((1 << (end - begin)) - 1) << begin
        if count - (used & ((1 << count) - 1)).bit_count() != group.free:
            used = (1 << count) - 1
        return used.to_bytes(-(-max(count, used.bit_length()) // 8), "little")

    def _flex_metadata(self, number: int, first: int) -> list[tuple[int, int]]:
        """Return which bitmaps and inode tables of the groups around one may lie in it: first blocks and counts."""
        log = self._super[372] if self.incompat & _INCOMPAT_FLEX_BG else 0
        size = min(1 << min(log, 31), _GROUPS_PER_FLEX_MAX)
        at = number // size * size
        if self._flex_at != at:
            self._flex_at, self._flex = at, []
            for other in range(at, min(at + size, self.groups)):
                group = self._group(other)
                self._flex += [
                    (group.block_bitmap, 1),
                    (group.inode_bitmap, 1),
                    (group.inode_table, self._table_blocks),
                ]
            self._flex.sort()
        low = bisect_left(self._flex, (first - self._table_blocks, 0))
        return self._flex[low : bisect_left(self._flex, (first + self.group_blocks, 0))]

    def _super_blocks(self, number: int) -> int:
        """Return how many blocks superblock and descriptors take at the start of a group."""
        own = int(self._has_super(number))
        index = number // self._per_block
        descriptor_blocks = -(-self.groups // self._per_block)
        if self.incompat & _INCOMPAT_META_BG:
            before = self._u32(260)
            if index >= before:
                return own + int(number % self._per_block in (0, 1, self._per_block - 1))
            descriptor_blocks = min(before, descriptor_blocks)
        return own * (1 + descriptor_blocks + self._u16(206))

    def _has_super(self, number: int) -> bool:
        if number == 0:
            return True
        if self._compat & _COMPAT_SPARSE_SUPER2:
            return number in struct.unpack_from("<II", self._super, 0x24C)
        if number == 1 or not self._ro & _RO_SPARSE_SUPER:
            return True
        return any(_is_power(number, root) for root in (3, 5, 7))


def _has_high_crc(inode: bytes) -> bool:
    """Return whether an inode is large enough for the upper half of its checksum."""
    return len(inode) > 128 and int.from_bytes(inode[128:130], "little") >= 4


def _stored_inode_crc(inode: bytes) -> int:
    high = int.from_bytes(inode[130:132], "little") if _has_high_crc(inode) else 0
    return high << 16 | int.from_bytes(inode[124:126], "little")


def _inode_crc(inode: bytes, number: int, seed: int) -> int:
    """Return the checksum that an inode should have."""
    blank = bytearray(inode)
    blank[124:126] = bytes(2)
    if _has_high_crc(inode):
        blank[130:132] = bytes(2)
    start = crc32c(inode[100:104], crc32c(number.to_bytes(4, "little"), seed))
    return crc32c(bytes(blank), start) & (0xFFFFFFFF if _has_high_crc(inode) else 0xFFFF)


def _is_power(number: int, root: int) -> bool:
    while number % root == 0:
        number //= root
    return number == 1


@lru_cache(maxsize=4)
def _bitmap_crc(seed: int, bitmap: bytes) -> int:
    """Return the checksum of a bitmap. Most groups of a new file system have one of few bitmaps."""
    return crc32c(bitmap, seed)
