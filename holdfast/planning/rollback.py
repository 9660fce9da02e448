"""How a disk is rolled back: whether only what changed since the point has to be written, or every byte is compared.

A rollback writes over what the machine has, so it is refused where the disk is not the one that the point is of; where
only the word of the hypervisor about changes is in doubt, the disk is compared with the point instead.
"""

from collections.abc import Iterable, Sequence

from holdfast.model.ids import ChangeId
from holdfast.model.machine import Disk
from holdfast.model.plan import ReadDecision, ReadMode
from holdfast.planning.change_trust import LIE


def decide_rollback(change_id: ChangeId | None, *, is_doubted: bool) -> ReadDecision:
    """Choose how the differences between a disk and a point are found.

    ``change_id`` is that of the disk at the point; ``is_doubted`` says that a later point found the tracking to lie.
    """
    if change_id is None:
        return ReadDecision(mode=ReadMode.COMPARED, reason="the point has no change id")
    if is_doubted:
        return ReadDecision(mode=ReadMode.COMPARED, reason=f"{LIE} since the point")
    return ReadDecision(mode=ReadMode.CHANGED, reason="the provider tracks changes")


def unfit_for_rollback(present: Iterable[Disk], wanted: Sequence[Disk]) -> str | None:
    """Return why disks of a point cannot be rolled back in the disks that a machine has, or None when they can."""
    sizes = {disk.key: disk.size_bytes for disk in present}
    for disk in wanted:
        found = sizes.get(disk.key)
        if found is None:
            return f"it has no disk {disk.key}"
        if found != disk.size_bytes:
            return f"its disk {disk.key} has {found} bytes and had {disk.size_bytes} at the point"
    return None
