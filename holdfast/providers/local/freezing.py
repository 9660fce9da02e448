"""Freezing the disks of one machine: a copy of each, of one moment, on stable storage.

A shared-block copy is one moment per disk by the kernel, and takes no time; all disks are first
tried that way. A sparse copy is one moment only when nobody writes meanwhile, so the files' time
stamps are compared before and after, and a disk that was written to fails the snapshot instead of
being kept torn. A block device keeps no such stamp: give Holdfast an LVM snapshot, or power the
machine off.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from holdfast.errors import DiskChanged, SnapshotFailed
from holdfast.model.ids import DiskKey
from holdfast.providers.local.cloning import (
    copy_sparse,
    free_bytes,
    needed_bytes,
    reflink,
    stamp,
)
from holdfast.providers.local.files import is_full

WRITTEN_HINT = (
    "Put the disks and the provider's folder on one XFS or btrfs, protect an LVM snapshot, or power the machine off."
)


class LiveDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk to freeze: where it is and where its copy goes."""

    key: DiskKey
    size_bytes: int
    live: Path
    frozen: Path


class _Pair(msgspec.Struct, frozen=True):
    disk: LiveDisk
    source: int
    target: int


def freeze(disks: Sequence[LiveDisk], folder: Path) -> None:
    """Copy every disk into ``folder``.

    Raises `OSError`, `SnapshotFailed` when there is no space or a disk was written to meanwhile,
    and `DiskChanged` when one has another size than it should.
    """
    with ExitStack() as opened:
        pairs = [_open(disk, opened) for disk in disks]
        # All that can share blocks come first, close to one moment; nothing slow stands in between.
        rest = [pair for pair in pairs if not reflink(pair.source, pair.target)]
        _copy(rest, folder)
        for pair in pairs:
            os.fsync(pair.target)
            found = os.fstat(pair.target).st_size
            if found != pair.disk.size_bytes:
                raise DiskChanged(
                    f"disk {pair.disk.key!r} ({pair.disk.live}) had {pair.disk.size_bytes} bytes "
                    f"before the snapshot and {found} in it"
                )


def _open(disk: LiveDisk, opened: ExitStack) -> _Pair:
    source = os.open(disk.live, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, source)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    target = os.open(disk.frozen, flags, 0o600)
    opened.callback(os.close, target)
    return _Pair(disk, source, target)


def _copy(pairs: Sequence[_Pair], folder: Path) -> None:
    if not pairs:
        return
    needed, free = sum(needed_bytes(pair.source) for pair in pairs), free_bytes(folder)
    if needed > free:
        raise SnapshotFailed(_no_space(folder, needed, free))
    stamps = [stamp(pair.source) for pair in pairs]
    try:
        for pair in pairs:
            copy_sparse(pair.source, pair.target)
    except OSError as error:
        if is_full(error):
            raise SnapshotFailed(_no_space(folder, needed, free_bytes(folder))) from error
        raise
    for pair, before in zip(pairs, stamps, strict=True):
        if stamp(pair.source) != before:
            raise SnapshotFailed(
                f"disk {pair.disk.key!r} ({pair.disk.live}) was written to while it was copied",
                hint=WRITTEN_HINT,
            )


def _no_space(folder: Path, needed: int, free: int) -> str:
    return f"copying the disks to {folder} takes up to {needed} bytes and {free} are free"
