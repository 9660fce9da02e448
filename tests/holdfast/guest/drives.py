"""Disks to look over: images of real file systems, and tables and LVM metadata written by hand."""

import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from uuid import UUID

from holdfast.guest.file_tree import Entry, FileTree
from holdfast.guest.masks import parse_masks
from holdfast.guest.survey import GuestUse, survey
from holdfast.guest.window import Disk, Window
from holdfast.model.spans import Span
from holdfast.testing.images import find_program

SECTOR = 512
MIB = 1 << 20
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
RAID = UUID("a19d880f-05fc-4d3b-a006-743f0f84911e")
PV_ID = "abcdef" + "0123456789abcdefABCDEF0123"


def reader(source: Path | bytes) -> Callable[[int, int], bytes]:
    """Return a function that reads an image, and fails the test when asked for what is not there."""
    data = source if isinstance(source, bytes) else None

    def read(offset: int, length: int) -> bytes:
        if data is not None:
            found = data[offset : offset + length]
        else:
            with Path(str(source)).open("rb") as file:
                file.seek(offset)
                found = file.read(length)
        assert len(found) == length, (offset, length)
        return found

    return read


def disk(source: Path | bytes) -> Disk:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return Disk(reader(source), size)


def window(source: Path | bytes) -> Window:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return Window(disk(source), (Span(0, size),))


def look(source: Path | bytes, *, least: int = 1, at_rest: bool = True, masks: Sequence[str] = ()) -> GuestUse:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return survey(Disk(reader(source), size), least, at_rest=at_rest, masks=parse_masks(masks))


def entry(files: FileTree, path: str) -> Entry:
    """Return what a path of a volume names."""
    node, found = files.root, None
    for name in path.split("/"):
        [found] = [one for one in files.entries(node) if one.name == name]
        node = found.node
    assert found is not None
    return found


def stored(source: Path, files: FileTree, path: str) -> bytes:
    """Return the bytes of an image that a file consists of."""
    read = reader(source)
    return b"".join(read(span.start, span.length) for span in files.content(entry(files, path)))


def blocks(spans: Iterable[Span], size: int) -> set[int]:
    """Return the blocks of a size that spans consist of."""
    found: set[int] = set()
    for span in spans:
        assert span.start % size == span.length % size == 0
        found.update(range(span.start // size, span.end // size))
    return found


def patch(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def zero(path: Path, spans: Iterable[Span]) -> None:
    """Write zeros over spans, as if they had been left out and restored."""
    for span in spans:
        patch(path, span.start, bytes(span.length))


def garble(path: Path, spans: Iterable[Span]) -> None:
    """Write noise over spans, so that whoever needs them notices."""
    for span in spans:
        patch(path, span.start, b"\xa5" * span.length)


def run(name: str, *arguments: str | Path) -> str:
    command = [str(find_program(name)), *map(str, arguments)]
    environment = {"PATH": os.defpath, "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, check=False, timeout=100, env=environment)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.decode(errors="replace")


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def sparse(path: Path, size: int) -> Path:
    path.touch()
    os.truncate(path, size)
    return path


def swap_content(size: int, mark: bytes = b"SWAPSPACE2") -> bytes:
    """Return swap space without a page or block of zeros, which programs that fill images would leave out."""
    data = bytearray(b"\xa5" * size)
    struct.pack_into("<III", data, 1024, 1, size // 4096 - 1, 0)
    data[4086:4096] = mark.ljust(10, b"\0")
    return bytes(data)


# -- partition tables --------------------------------------------------------------------------------------------------


def mbr(*entries: tuple[int, int, int]) -> bytes:
    """Return a table sector from (type, first sector, count)."""
    raw = b"".join(struct.pack("<B3xB3xII", 0, *entry) for entry in entries)
    return bytes(446) + raw.ljust(64, b"\0") + b"\x55\xaa"


def gpt_copy(sectors: int, entries: Iterable[tuple[UUID, int, int]], *, is_backup: bool = False) -> tuple[bytes, bytes]:
    """Return header and entries of one copy, from (type, first sector, last sector)."""
    raw = b"".join(struct.pack("<16s16sQQ80x", kind.bytes_le, b"u" * 16, *place) for kind, *place in entries)
    raw = raw.ljust(128 * 128, b"\0")
    own, other, at = (sectors - 1, 1, sectors - 33) if is_backup else (1, sectors - 1, 2)
    head = struct.pack(
        "<8sIIIIQQQQ16sQIII",
        b"EFI PART", 0x10000, 92, 0, 0, own, other, 34, sectors - 34, b"d" * 16, at, 128, 128, zlib.crc32(raw),
    )  # fmt: skip
    head = head[:16] + struct.pack("<I", zlib.crc32(head)) + head[20:]
    return head.ljust(SECTOR, b"\0"), raw


def write_gpt(path: Path, entries: list[tuple[UUID, int, int]]) -> None:
    sectors = path.stat().st_size // SECTOR
    patch(path, 0, mbr((0xEE, 1, 0xFFFFFFFF)))
    head, raw = gpt_copy(sectors, entries)
    patch(path, SECTOR, head + raw)
    head, raw = gpt_copy(sectors, entries, is_backup=True)
    patch(path, (sectors - 33) * SECTOR, raw + head)


def place_volume(path: Path, volume: Path, at: int) -> None:
    """Copy an image into a disk."""
    with volume.open("rb") as source:
        offset = at
        while data := source.read(MIB):
            if data.count(0) != len(data):
                patch(path, offset, data)
            offset += len(data)


# -- LVM ---------------------------------------------------------------------------------------------------------------


def lvm_crc(data: bytes) -> int:
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def lvm_text(volumes: str, *, pv_id: str = PV_ID, more: str = "") -> str:
    """Return metadata of a group with extents of 1 MiB whose physical volume ``pv0`` begins with them at 1 MiB."""
    dashed = "-".join((pv_id[:6], pv_id[6:10], pv_id[10:14], pv_id[14:18], pv_id[18:22], pv_id[22:26], pv_id[26:]))
    return f"""vg0 {{
id = "group"
seqno = 3
format = "lvm2"			# informational
status = ["RESIZEABLE", "READ", "WRITE"]
flags = []
extent_size = 2048		# 1 Megabyte
max_lv = 0
physical_volumes {{
pv0 {{
id = "{dashed}"
device = "/dev/sda2"
dev_size = 131072
pe_start = 2048
pe_count = 60
}}
{more}
}}
logical_volumes {{
{volumes}
}}
}}
# Generated by LVM2
contents = "Text Format Volume Group"
version = 1
creation_time = 1700000000
"""


def lvm_volume(name: str, *segments: tuple[int, int, str]) -> str:
    """Return a logical volume from (first extent, count, the rest of the segment)."""
    parts = [
        f"segment{number} {{\nstart_extent = {first}\nextent_count = {count}\n{rest}\n}}"
        for number, (first, count, rest) in enumerate(segments, 1)
    ]
    head = f'{name} {{\nid = "x"\nstatus = ["READ", "WRITE", "VISIBLE"]\nsegment_count = {len(segments)}\n'
    return head + "\n".join(parts) + "\n}\n"


def linear(first: int, count: int, at: int, holder: str = "pv0") -> tuple[int, int, str]:
    return first, count, f'type = "striped"\nstripe_count = 1\nstripes = [\n"{holder}", {at}\n]'


def physical_volume(text: str, *, size: int = 64 * MIB, wrap: bool = False, pv_id: str = PV_ID) -> bytes:
    """Return the first MiB of a physical volume: label, metadata area at 4 KiB, text."""
    area_at, area_size = 4096, MIB - 4096
    raw = text.encode() + b"\0"
    offset = area_size - 100 if wrap else 512
    location = struct.pack("<QQII", offset, len(raw), lvm_crc(raw), 0)
    head = (b" LVM2 x[5A%r0N*>" + struct.pack("<IQQ", 1, area_at, area_size) + location).ljust(508, b"\0")
    area = bytearray(area_size)
    area[:512] = struct.pack("<I", lvm_crc(head)) + head
    area[offset : offset + len(raw)] = raw[: area_size - offset]
    area = area[:area_size]
    rest = raw[area_size - offset :] if wrap else b""
    area[512 : 512 + len(rest)] = rest
    header = pv_id.encode() + struct.pack("<QQQQQQQQQ", size, MIB, 0, 0, 0, area_at, area_size, 0, 0)
    label = struct.pack("<I8s", 32, b"LVM2 001") + header
    label = label.ljust(SECTOR - 20, b"\0")
    sector = b"LABELONE" + struct.pack("<QI", 1, lvm_crc(label)) + label
    return bytes(SECTOR) + sector + bytes(area_at - 2 * SECTOR) + bytes(area)
