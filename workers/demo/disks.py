"""Makes the demonstration's machines: disks with real file systems, changed as guests would change them."""

import hashlib
from pathlib import Path

import msgspec

from holdfast.model.ids import DiskKey
from holdfast.testing.images import (
    MIB,
    FileSystem,
    available_file_systems,
    check_image,
    make_image,
    system_tree,
    write_files,
)

_SEED = 20


class DemoScale(msgspec.Struct, frozen=True, kw_only=True):
    """How much data the demonstration works with."""

    system_bytes: int
    """Files of the host's own system that the system disk gets."""
    upload_bytes: int
    """What a guest writes between two backups."""
    records_bytes: int
    kill_at_bytes: int
    """How much of a disk is stored when the proxy or the server dies."""
    disk_sizes: tuple[int, int, int]
    """Of system, swap and data disk."""


SCALES = {
    "normal": DemoScale(
        system_bytes=320 * MIB,
        upload_bytes=256 * MIB,
        records_bytes=160 * MIB,
        kill_at_bytes=96 * MIB,
        disk_sizes=(1536 * MIB, 2048 * MIB, 768 * MIB),
    ),
    "small": DemoScale(
        system_bytes=64 * MIB,
        upload_bytes=128 * MIB,
        records_bytes=16 * MIB,
        kill_at_bytes=40 * MIB,
        disk_sizes=(640 * MIB, 512 * MIB, 320 * MIB),
    ),
}


class DemoDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A raw disk, and what is on it."""

    machine: str
    label: str
    """What it is for."""
    key: DiskKey
    """Its key at the hypervisor."""
    path: Path
    file_system: FileSystem
    size_bytes: int
    describes: str


def make_disks(folder: Path, scale: DemoScale) -> list[DemoDisk]:
    """Make three disks of two machines: a system disk, a nearly empty one with swap, and a data disk.

    The data disk is NTFS, else XFS, else ext4, as the host's programs allow. Raises `ToolMissing` without e2fsprogs.
    """
    there = available_file_systems()
    data = next(
        kind for kind in (FileSystem.NTFS, FileSystem.XFS, FileSystem.EXT4) if kind in {*there, FileSystem.EXT4}
    )
    blank = FileSystem.SWAP if FileSystem.SWAP in there else FileSystem.EXT4
    plan = [
        ("web01", "system", FileSystem.EXT4, "a system tree"),
        ("web01", "swap", blank, "nearly empty"),
        ("db01", "data", data, "incompressible records and logs"),
    ]
    disks = []
    for (machine, label, kind, text), size in zip(plan, scale.disk_sizes, strict=True):
        path = folder / f"{machine}-{label}.raw"
        make_image(path, kind, size, _first_files(label, scale), seed=_SEED)
        disks.append(
            DemoDisk(
                machine=machine,
                label=label,
                key=DiskKey(label),
                path=path,
                file_system=kind,
                size_bytes=size,
                describes=text,
            )
        )
    return disks


def change_disks(disks: list[DemoDisk], generation: int, scale: DemoScale) -> int:
    """Write new files inside the guests' file systems and replace old ones; return the bytes written."""
    written = 0
    for disk in disks:
        if disk.file_system in {FileSystem.XFS, FileSystem.SWAP}:
            continue
        size = scale.upload_bytes if disk.label == "system" else scale.records_bytes // 8
        files = {
            f"upload-{generation}.bin": _noise(f"{disk.label} {generation}", size),
            "changed.log": _log(generation),
        }
        write_files(disk.path, disk.file_system, files)
        written += sum(len(data) for data in files.values())
    return written


def problems_of(disk: DemoDisk, path: Path) -> str:
    """Return what the file system's own checker complains of in ``path``; empty when it is clean."""
    checked = check_image(path, disk.file_system)
    return "" if checked.is_clean else checked.report


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_files(label: str, scale: DemoScale) -> dict[str, bytes | Path]:
    if label == "system":
        return dict(system_tree(scale.system_bytes))
    if label == "data":
        return {"records.bin": _noise("records", scale.records_bytes), "changed.log": _log(0)}
    return {}


def _noise(name: str, size: int) -> bytes:
    """Return bytes that do not compress and are the same each time."""
    return hashlib.shake_128(name.encode()).digest(size)


def _log(generation: int) -> bytes:
    lines = (f"{generation:04d} {number:08d} request served in {number % 97} ms\n" for number in range(400_000))
    return "".join(lines).encode()
