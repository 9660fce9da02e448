"""The file systems whose volumes can be looked into, by the names of `holdfast.guest.signatures`."""

from typing import TypeAlias

from holdfast.guest import signatures
from holdfast.guest.ext import Ext
from holdfast.guest.ext_files import ExtFiles
from holdfast.guest.file_tree import FileTree
from holdfast.guest.ntfs import Ntfs
from holdfast.guest.ntfs_files import NtfsFiles
from holdfast.guest.window import Implausible, Window
from holdfast.guest.xfs import Xfs
from holdfast.guest.xfs_files import XfsFiles

FileSystem: TypeAlias = Ext | Xfs | Ntfs


def open_file_system(kind: str, window: Window) -> FileSystem:
    """Return the file system of a volume. Raises `Implausible` when it is not one of that kind."""
    if kind == signatures.EXT:
        return Ext(window)
    if kind == signatures.XFS:
        return Xfs(window)
    if kind == signatures.NTFS:
        return Ntfs(window)
    raise Implausible(f"nothing is known here of {kind}")


def files_of(file_system: FileSystem) -> FileTree:
    """Return the folders and files of a file system."""
    match file_system:
        case Ext():
            return ExtFiles(file_system)
        case Xfs():
            return XfsFiles(file_system)
        case _:
            return NtfsFiles(file_system)
