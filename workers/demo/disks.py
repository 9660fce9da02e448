"""Makes the demonstration's machines: disks with real file systems, changed as guests would change them."""

import hashlib
from pathlib import Path

import msgspec

from holdfast.testing.images import (
    MIB,
    FileSystem,
    available_file_systems,
    check_image,
    make_image,
    system_tree,
    write_files,
)

_SYSTEM_BYTES = 320 * MIB
_SEED = 20


class DemoDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A raw disk, and what is on it."""

    machine: str
    key: str
    path: Path
    file_system: FileSystem
    size_bytes: int
    describes: str


def make_disks(folder: Path) -> list[DemoDisk]:
    """Make three disks of two machines: a system disk, a nearly empty one with swap, and a data disk.

    The data disk is NTFS, else XFS, else ext4, as the host's programs allow. Raises `ToolMissing` without e2fsprogs.
    """
    there = available_file_systems()
    data = next(
        kind for kind in (FileSystem.NTFS, FileSystem.XFS, FileSystem.EXT4) if kind in {*there, FileSystem.EXT4}
    )
    blank = FileSystem.SWAP if FileSystem.SWAP in there else FileSystem.EXT4
    plan = [
        ("web01", "system", FileSystem.EXT4, 2048 * MIB, "a system tree"),
        ("web01", "swap", blank, 4096 * MIB, "nearly empty"),
        ("db01", "data", data, 768 * MIB, "incompressible records and logs"),
    ]
    disks = []
    for machine, key, kind, size, text in plan:
        path = folder / f"{machine}-{key}.raw"
        make_image(path, kind, size, _first_files(key), seed=_SEED)
        disks.append(DemoDisk(machine=machine, key=key, path=path, file_system=kind, size_bytes=size, describes=text))
    return disks


def change_disks(disks: list[DemoDisk], generation: int) -> int:
    """Write new files inside the guests' file systems and replace old ones; return the bytes written."""
    written = 0
    for disk in disks:
        if disk.file_system in {FileSystem.XFS, FileSystem.SWAP}:
            continue
        size = (320 if disk.key == "system" else 24) * MIB
        files = {f"upload-{generation}.bin": _noise(f"{disk.key} {generation}", size), "changed.log": _log(generation)}
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


def _first_files(key: str) -> dict[str, bytes | Path]:
    if key == "system":
        return dict(system_tree(_SYSTEM_BYTES))
    if key == "data":
        return {"records.bin": _noise("records", 160 * MIB), "changed.log": _log(0)}
    return {}


def _noise(name: str, size: int) -> bytes:
    """Return bytes that do not compress and are the same each time."""
    return hashlib.shake_128(name.encode()).digest(size)


def _log(generation: int) -> bytes:
    lines = (f"{generation:04d} {number:08d} request served in {number % 97} ms\n" for number in range(400_000))
    return "".join(lines).encode()
