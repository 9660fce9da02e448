"""Disks with real file systems inside, made and changed without mounting anything.

An image is a raw, sparse file without a partition table. What goes into it is a *tree*: guest paths and where their
bytes come from. Programs do the work: e2fsprogs for ext4, and where they are installed xfsprogs, ntfs-3g and
util-linux for the others. Images of ext4 and swap are the same bytes each time for the same tree, size and seed; XFS
and NTFS write times and serial numbers of their own.

What each file system can do here:

======  =======  ========  ============================
ext4    folders  changes   everything
xfs     folders            filled when it is made only
ntfs             changes   files in the top folder only
swap                       nothing inside
======  =======  ========  ============================
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import msgspec

from holdfast.errors import RequestInvalid, ToolMissing

Tree: TypeAlias = Mapping[str, bytes | Path]
"""Guest paths, relative to the top folder, and their content: bytes, or a file of the host."""

MIB = 1 << 20
SYSTEM_FOLDERS = (Path("/usr/bin"), Path("/usr/lib"), Path("/usr/share"))
"""Where `system_tree` takes files from."""

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _SYSTEM_PATH, "LC_ALL": "C", "E2FSPROGS_FAKE_TIME": "1700000000"}
_PLAIN_NAME = re.compile(r"[^\s\"'\\$]+")
_TIMEOUT_S = 900
_SWAP_MAGIC = b"SWAPSPACE2"
_SWAP_MAGIC_AT = 4096 - len(_SWAP_MAGIC)

_Ended: TypeAlias = subprocess.CompletedProcess[bytes]


class FileSystem(StrEnum):
    """What can be inside an image. A new value needs a row in the table above."""

    EXT4 = "ext4"
    XFS = "xfs"
    NTFS = "ntfs"
    SWAP = "swap"


PROGRAMS = {
    FileSystem.EXT4: ("mke2fs", "debugfs", "e2fsck"),
    FileSystem.XFS: ("mkfs.xfs", "xfs_repair"),
    FileSystem.NTFS: ("mkntfs", "ntfscp", "ntfscat", "ntfsfix"),
    FileSystem.SWAP: ("mkswap",),
}
SMALLEST_BYTES = {
    FileSystem.EXT4: 4 * MIB,
    FileSystem.XFS: 300 * MIB,
    FileSystem.NTFS: 4 * MIB,
    FileSystem.SWAP: MIB,
}


class Checked(msgspec.Struct, frozen=True):
    """What the file system's own checker says; it changes nothing."""

    is_clean: bool
    report: str


def find_program(name: str) -> Path:
    """Return where a program is, also when its folder is on root's PATH only. Raises `ToolMissing`."""
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        raise ToolMissing(f"program {name} is not installed")
    return Path(found)


def available_file_systems() -> tuple[FileSystem, ...]:
    """Return the file systems whose programs are all installed."""
    found = []
    for file_system, programs in PROGRAMS.items():
        try:
            for name in programs:
                find_program(name)
        except ToolMissing:
            continue
        found.append(file_system)
    return tuple(found)


def make_image(
    path: Path, file_system: FileSystem, size_bytes: int, tree: Tree | None = None, *, seed: int = 0
) -> None:
    """Make a sparse image of ``size_bytes`` with the files of ``tree`` inside; a file at ``path`` is replaced.

    Raises `ToolMissing`, and `RequestInvalid` when the file system cannot be made so.
    """
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    os.truncate(path, size_bytes)
    identity = str(uuid.UUID(bytes=hashlib.blake2b(f"image {seed}".encode(), digest_size=16).digest(), version=4))
    files = tree or {}
    match file_system:
        case FileSystem.EXT4:
            _make_ext4(path, identity, files)
        case FileSystem.XFS:
            _make_xfs(path, identity, files)
        case FileSystem.NTFS:
            _run("mkntfs", "--quiet", "--force", "--fast", "-s", "512", "-p", "0", "-H", "255", "-S", "63", str(path))
            _write_ntfs(path, files)
        case FileSystem.SWAP:
            _refuse_files(file_system, files)
            _run("mkswap", "--uuid", identity, str(path))


def write_files(path: Path, file_system: FileSystem, tree: Tree) -> None:
    """Write or replace files inside an image, as a guest would. Raises `ToolMissing`, `RequestInvalid`."""
    match file_system:
        case FileSystem.EXT4:
            _write_ext4(path, tree)
        case FileSystem.NTFS:
            _write_ntfs(path, tree)
        case FileSystem.XFS | FileSystem.SWAP:
            _refuse_files(file_system, tree)


def remove_files(path: Path, names: Iterable[str]) -> None:
    """Remove files from an ext4 image. Raises `RequestInvalid` when one is not there."""
    _debugfs(path, [f'rm "{_checked_name(name)}"' for name in names])


def read_file(path: Path, file_system: FileSystem, name: str) -> bytes:
    """Return the content of a file inside an ext4 or NTFS image. Raises `ToolMissing`, `RequestInvalid`."""
    match file_system:
        case FileSystem.EXT4:
            return _debugfs(path, [f'cat "{_checked_name(name)}"'], is_reading=True)
        case FileSystem.NTFS:
            return _run("ntfscat", str(path), name).stdout
        case FileSystem.XFS | FileSystem.SWAP:
            raise RequestInvalid(f"files inside {file_system} cannot be read without mounting it")


def check_image(path: Path, file_system: FileSystem) -> Checked:
    """Ask the file system's own checker, which changes nothing. Raises `ToolMissing`."""
    match file_system:
        case FileSystem.EXT4:
            return _checked(_start("e2fsck", "-f", "-n", str(path)))
        case FileSystem.XFS:
            return _checked(_start("xfs_repair", "-n", "-f", str(path)))
        case FileSystem.NTFS:
            return _checked(_start("ntfsfix", "--no-action", str(path)))
        case FileSystem.SWAP:
            with path.open("rb") as image:
                image.seek(_SWAP_MAGIC_AT)
                magic = image.read(len(_SWAP_MAGIC))
            return Checked(magic == _SWAP_MAGIC, f"signature {magic!r}")


def system_tree(budget_bytes: int, folders: Sequence[Path] = SYSTEM_FOLDERS) -> dict[str, Path]:
    """Return files of the host's own system, as plain input data, until they are ``budget_bytes`` together.

    Always the same files on the same host: they are taken in sorted order, files that would go over the budget are
    left out. Links, unreadable files and names that need quoting are left out too.
    """
    tree: dict[str, Path] = {}
    left = budget_bytes
    for source in _regular_files(folders):
        size = source.stat().st_size
        if size <= left:
            tree[str(source.relative_to("/"))] = source
            left -= size
        if left <= 0:
            break
    return tree


def tree_size(tree: Tree) -> int:
    """Return the number of bytes in the files of a tree."""
    return sum(len(data) if isinstance(data, bytes) else data.stat().st_size for data in tree.values())


# -- ext4 --------------------------------------------------------------------------------------------------------------


def _make_ext4(path: Path, identity: str, tree: Tree) -> None:
    options = f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={identity}"
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-U", identity, "-E", options, str(path))
    if tree:
        _write_ext4(path, tree)


def _write_ext4(path: Path, tree: Tree) -> None:
    with _on_host(tree) as sources:
        folders = [f'mkdir "{folder}"' for folder in _folders(sources)]
        removals = [f'rm "{name}"' for name in sources]
        # What a later file replaces is freed first; a name or folder that is new is no mistake here.
        _debugfs(path, [*folders, *removals], expected=("File not found by ext2_lookup", "directory already exists"))
        _debugfs(path, [f'write "{source}" "{name}"' for name, source in sources.items()])


def _debugfs(path: Path, commands: Sequence[str], *, is_reading: bool = False, expected: tuple[str, ...] = ()) -> bytes:
    if is_reading:
        done = _run("debugfs", "-R", commands[0], str(path))
    else:
        with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
            script.write("\n".join(commands) + "\n")
            script.flush()
            done = _run("debugfs", "-w", "-f", script.name, str(path))
    # The program states its version on standard error, and its exit status is 0 whatever happened.
    complaints = [line for line in done.stderr.decode(errors="replace").splitlines()[1:] if line.strip()]
    complaints = [line for line in complaints if not any(words in line for words in expected)]
    if complaints:
        raise RequestInvalid(f"debugfs on {path}: {complaints[0]}")
    return done.stdout


# -- others ------------------------------------------------------------------------------------------------------------


def _make_xfs(path: Path, identity: str, tree: Tree) -> None:
    with _on_host(tree) as sources, tempfile.NamedTemporaryFile("w", suffix=".proto") as script:
        script.write("/\n0 0\nd--755 0 0\n")
        script.writelines(f"{line}\n" for line in _prototype(sources, PurePosixPath("/")))
        script.write("$\n")
        script.flush()
        _run("mkfs.xfs", "-q", "-f", "-m", f"uuid={identity}", "-p", script.name, str(path))


def _prototype(sources: Mapping[str, Path], folder: PurePosixPath) -> Iterator[str]:
    """Yield the lines of a prototype file for what is below a folder."""
    for name, source in sources.items():
        if PurePosixPath(name).parent == folder:
            yield f"{PurePosixPath(name).name} ---644 0 0 {source}"
    for inner in _folders(sources):
        if inner.parent == folder:
            yield f"{inner.name} d--755 0 0"
            yield from _prototype({n: s for n, s in sources.items() if inner in PurePosixPath(n).parents}, inner)
            yield "$"


def _write_ntfs(path: Path, tree: Tree) -> None:
    with _on_host(tree) as sources:
        if _folders(sources):
            raise RequestInvalid("folders inside ntfs cannot be made without mounting it")
        for name, source in sources.items():
            _run("ntfscp", "--quiet", str(path), str(source), PurePosixPath(name).name)


def _refuse_files(file_system: FileSystem, tree: Tree) -> None:
    if tree:
        raise RequestInvalid(f"files cannot be written into {file_system} without mounting it")


# -- trees and programs ------------------------------------------------------------------------------------------------


@contextmanager
def _on_host(tree: Tree) -> Iterator[dict[str, Path]]:
    """Give every file of the tree a place on the host; the keys become absolute guest paths, sorted."""
    with tempfile.TemporaryDirectory(prefix="tree-") as folder:
        sources = {}
        for number, (name, data) in enumerate(sorted(tree.items())):
            source = data if isinstance(data, Path) else Path(folder, str(number))
            if isinstance(data, bytes):
                source.write_bytes(data)
                source.chmod(0o644)
            _checked_name(str(source))
            sources[_checked_name(name)] = source
        yield sources


def _folders(sources: Iterable[str]) -> list[PurePosixPath]:
    """Return the folders that the paths need, outer ones first."""
    found = {folder for name in sources for folder in PurePosixPath(name).parents}
    return sorted(found - {PurePosixPath("/")})


def _checked_name(name: str) -> str:
    """Return the absolute form of a path that no program needs quoted. Raises `RequestInvalid`."""
    if not _PLAIN_NAME.fullmatch(name) or ".." in PurePosixPath(name).parts:
        raise RequestInvalid(f"path {name!r} cannot be used in an image")
    return str(PurePosixPath("/") / name)


def _regular_files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for parent, names, files in os.walk(folder):
            names.sort()
            for name in sorted(files):
                source = Path(parent, name)
                is_usable = _PLAIN_NAME.fullmatch(str(source)) and source.is_file() and not source.is_symlink()
                if is_usable and os.access(source, os.R_OK):
                    yield source


def _checked(ended: _Ended) -> Checked:
    return Checked(ended.returncode == 0, (ended.stdout + ended.stderr).decode(errors="replace"))


def _run(*command: str) -> _Ended:
    done = _start(*command)
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise RequestInvalid(
            f"{command[0]} failed with status {done.returncode}: {words[0] if words else 'no message'}"
        )
    return done


def _start(name: str, *arguments: str) -> _Ended:
    command = [str(find_program(name)), *arguments]
    return subprocess.run(
        command, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
    )
