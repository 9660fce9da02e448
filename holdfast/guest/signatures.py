"""What kinds of content a volume bears the marks of.

A volume is only looked into when it bears exactly one mark: a mark that an earlier use left behind must never decide
which bytes are not needed.
"""

import struct

from holdfast.guest import swap
from holdfast.guest.window import SECTOR, Window

EXT = "ext"
XFS = "xfs"
NTFS = "ntfs"
SWAP = "swap"
LVM = "lvm"
FAT = "FAT"
EXFAT = "exFAT"
ISO = "ISO 9660"

_OTHERS = (
    (0, b"LUKS\xba\xbe", "LUKS"),
    (3, b"-FVE-FS-", "BitLocker"),
    (3, b"EXFAT   ", EXFAT),
    (3, b"ReFS", "ReFS"),
    (54, b"FAT12   ", FAT),
    (54, b"FAT16   ", FAT),
    (82, b"FAT32   ", FAT),
    (1024, b"\x10\x20\xf5\xf2", "F2FS"),
    (4096, b"\xfc\x4e\x2b\xa9", "array"),
    (0, b"\xfc\x4e\x2b\xa9", "array"),
    (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcache"),
    (32768, b"JFS1", "JFS"),
    (32769, b"CD001", ISO),
    (65588, b"ReIsEr", "ReiserFS"),
    (65600, b"_BHRfS_M", "Btrfs"),
)
_ARRAY_MAGIC = b"\xfc\x4e\x2b\xa9"
_KIB_64 = 64 << 10
_UBERBLOCKS_AT = 128 << 10
_UBERBLOCK = 1 << 10
_UBERBLOCK_MAGIC = (0x00BAB10C).to_bytes(8, "little")


def marks(volume: Window) -> tuple[str, ...]:
    """Return the kinds that a volume bears the marks of, each once."""
    found = {name for at, magic, name in _OTHERS if volume.peek(at, len(magic)) == magic}
    tests = (
        (EXT, _has_ext),
        (XFS, _has_xfs),
        (NTFS, _has_ntfs),
        (LVM, _has_lvm),
        ("array", _ends_in_array),
        ("ZFS", _has_zfs),
    )
    found.update(name for name, has in tests if has(volume))
    if swap.signature(volume) is not None:
        found.add(SWAP)
    return tuple(sorted(found))


def _has_ext(volume: Window) -> bool:
    return volume.peek(1080, 2) == struct.pack("<H", 0xEF53)


def _has_xfs(volume: Window) -> bool:
    return volume.peek(0, 4) == b"XFSB"


def _has_ntfs(volume: Window) -> bool:
    return volume.peek(3, 8) == b"NTFS    "


def _has_lvm(volume: Window) -> bool:
    return any(volume.peek(sector * SECTOR, 8) == b"LABELONE" for sector in range(4))


def _has_zfs(volume: Window) -> bool:
    """Return whether the first label has an uberblock. The first 8 KiB may still bear the mark of an earlier use."""
    blocks = volume.peek(_UBERBLOCKS_AT, _UBERBLOCKS_AT)
    magics = {blocks[at : at + 8] for at in range(0, len(blocks), _UBERBLOCK)}
    return not magics.isdisjoint((_UBERBLOCK_MAGIC, _UBERBLOCK_MAGIC[::-1]))


def _ends_in_array(volume: Window) -> bool:
    """Return whether the last sectors hold a member's superblock: what stands before it looks like a volume."""
    old = volume.size // _KIB_64 * _KIB_64 - _KIB_64
    new = (volume.size // SECTOR - 16) // 8 * 8 * SECTOR
    return any(volume.peek(at, 4) == _ARRAY_MAGIC for at in (old, new))
