"""What a new point says of itself, from the snapshot it is made of and the point it rests on."""

import os

from holdfast.errors import LimitExceeded, RequestInvalid
from holdfast.formats.contents import ParentPoint, Point, PointDisk, PointMachine
from holdfast.model.ids import SessionId
from holdfast.model.machine import DISK_SIZE_MAX, DISKS_PER_MACHINE_MAX, SECTOR_SIZE, Snapshot
from holdfast.storage.chain_files.chain_file import ChainFile


def check_snapshot(snapshot: Snapshot) -> None:
    """Raise `RequestInvalid` or `LimitExceeded` for a snapshot of which no point can be made."""
    keys = [disk.key for disk in snapshot.disks]
    if len(set(keys)) < len(keys):
        raise RequestInvalid(f"snapshot {snapshot.snapshot_id} names a disk twice")
    if len(keys) > DISKS_PER_MACHINE_MAX:
        raise LimitExceeded(f"snapshot {snapshot.snapshot_id} has {len(keys)} disks")
    for disk in snapshot.disks:
        if disk.size_bytes % SECTOR_SIZE:
            raise RequestInvalid(f"disk {disk.key} has {disk.size_bytes} bytes, not a multiple of {SECTOR_SIZE}")
        if disk.size_bytes > DISK_SIZE_MAX:
            raise LimitExceeded(f"disk {disk.key} has {disk.size_bytes} bytes, the most is {DISK_SIZE_MAX}")


def parent_of(parent: tuple[ChainFile, Point] | None) -> ParentPoint | None:
    """Return how a file names the point it rests on."""
    if parent is None:
        return None
    file, point = parent
    return ParentPoint(file=file.contents.file, point=point.number, root=point.root or "")


def new_point(session: SessionId, snapshot: Snapshot, before: Point | None, number: int) -> Point:
    """Return a point of a machine that nothing is written of; ``before`` is the newest one that it has.

    It names the machine as the points before it do: a chain that was given to another machine keeps its numbers of
    disks, which hang on that id.
    """
    machine = snapshot.machine
    return Point(
        number=number,
        id=os.urandom(16).hex(),
        session=session,
        machine=PointMachine(
            machine_id=machine.machine_id if before is None else before.machine.machine_id,
            name=machine.name,
            power=machine.power,
            configuration=machine.configuration,
        ),
        created=snapshot.created,
        parent_root=None if before is None else before.root,
        snapshot=snapshot.snapshot_id,
        disks=tuple(
            PointDisk(disk=0, key=disk.key, size=disk.size_bytes, change_id=disk.change_id) for disk in snapshot.disks
        ),
    )
