"""What every provider refuses in a request for a restore target."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from holdfast.errors import HoldfastError, LimitExceeded, RequestInvalid
from holdfast.model.ids import DiskKey, TargetId
from holdfast.model.machine import DISK_SIZE_MAX, DISKS_PER_MACHINE_MAX, SECTOR_SIZE, Disk, RestoreTarget
from holdfast.planning.rollback import unfit_for_rollback

IN_FULL_HINT: Final = "Restore in full, without `--quick` or `--delta`."
"""What to do where only a rollback is impossible."""


def target_id_of(token: str) -> TargetId:
    """Return the id of the target that a token names."""
    if not token:
        raise RequestInvalid("a restore target's token is empty")
    return TargetId(hashlib.sha256(token.encode()).hexdigest()[:32])


def check_disks(target: RestoreTarget) -> None:
    """Raise `RequestInvalid` or `LimitExceeded` for disks that no machine can have."""
    place = f"target {target.target_id} for machine {target.machine_name!r}"
    check_keys([disk.key for disk in target.disks], place, RequestInvalid)
    for disk in target.disks:
        checked_size(disk.size_bytes, f"disk {disk.key!r} of {place}", RequestInvalid)


def check_in_place(machine: str, present: Iterable[Disk], wanted: Sequence[Disk]) -> None:
    """Raise `RequestInvalid` unless a machine has these disks with these sizes."""
    reason = unfit_for_rollback(present, wanted)
    if reason is not None:
        raise RequestInvalid(f"machine {machine!r} cannot be rolled back: {reason}", hint=IN_FULL_HINT)


def checked_size(size_bytes: int, place: str, kind: type[HoldfastError]) -> int:
    """Return the size of a disk; raise ``kind`` when no disk can have it, naming ``place``."""
    if size_bytes <= 0 or size_bytes % SECTOR_SIZE:
        raise kind(f"{place} has {size_bytes} bytes, which is not a positive multiple of {SECTOR_SIZE}")
    if size_bytes > DISK_SIZE_MAX:
        raise LimitExceeded(f"{place} has {size_bytes} bytes, more than {DISK_SIZE_MAX}")
    return size_bytes


def check_keys(keys: list[DiskKey], place: str, kind: type[HoldfastError]) -> None:
    """Check that the disks of a machine are not too many and have different, non-empty keys."""
    if len(keys) > DISKS_PER_MACHINE_MAX:
        raise LimitExceeded(f"{place} has {len(keys)} disks, more than {DISKS_PER_MACHINE_MAX}")
    if "" in keys:
        raise kind(f"{place} has a disk with an empty key")
    twice = next((key for index, key in enumerate(keys) if key in keys[:index]), None)
    if twice is not None:
        raise kind(f"{place} has two disks with the key {twice!r}")
