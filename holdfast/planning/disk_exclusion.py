"""Which disks of a machine a job leaves out."""

import fnmatch
from collections.abc import Sequence

import msgspec

from holdfast.model.machine import Snapshot


def without_excluded(snapshot: Snapshot, patterns: Sequence[str]) -> tuple[Snapshot, tuple[str, ...]]:
    """Return a snapshot without the disks that a pattern of ``machine/key`` names, and the keys of those.

    The machine in it is as it will be restored: without them too.
    """
    left_out = tuple(
        disk.key
        for disk in snapshot.disks
        if any(fnmatch.fnmatchcase(f"{snapshot.machine.name}/{disk.key}", pattern) for pattern in patterns)
    )
    if not left_out:
        return snapshot, ()
    machine = msgspec.structs.replace(
        snapshot.machine, disks=tuple(disk for disk in snapshot.machine.disks if disk.key not in left_out)
    )
    disks = tuple(disk for disk in snapshot.disks if disk.key not in left_out)
    return msgspec.structs.replace(snapshot, disks=disks, machine=machine), left_out
