"""What Holdfast needs from a hypervisor.

One provider is one object with these methods. All are blocking, may be called from several threads, and raise the
errors of `holdfast.errors` only. The shipped suite `holdfast.testing.providers` states the contract as tests; every
provider passes it.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from holdfast.errors import HoldfastError
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId, TargetId
from holdfast.model.latency import DatastoreLatency
from holdfast.model.machine import (
    ANYWHERE,
    AS_IT_IS,
    AttachedDisk,
    Choice,
    Disk,
    Machine,
    Placement,
    PowerState,
    RestoreTarget,
    Snapshot,
    SnapshotOptions,
)
from holdfast.model.machine_files import MachineFile, MachineFiles, PlacedFiles
from holdfast.model.placement import DiskWay
from holdfast.model.plan import Transport
from holdfast.model.selection import Selector
from holdfast.model.spans import Span
from holdfast.pipeline.disks import DiskReader, DiskWriter


class SourceDisk(DiskReader, Protocol):
    """An open disk of a snapshot."""

    place: str
    """Where its bytes lay when it was opened, see `Snapshots.disk_place`."""

    @property
    def transport(self) -> Transport:
        """How it is read, and why so."""
        ...

    @property
    def remarks(self) -> Sequence[str]:
        """What the operator should know of how it was read; there may be more the longer it is read."""
        ...


@runtime_checkable
class StreamedDisk(Protocol):
    """A source disk that comes from its front to its end: a read far ahead waits while all before it comes."""

    @property
    def pieces_received(self) -> int:
        """How many pieces came so far; it grows while a read waits."""
        ...

    def stop_waiting(self, error: HoldfastError) -> None:
        """Let reads that wait, and all later ones, raise an error."""
        ...


class OpenedTarget(DiskWriter, Protocol):
    """An open disk of a restore target."""

    transport: Transport | None
    """How it is written, and why so; None where there is one way only."""


class Inventory(Protocol):
    """Which machines there are."""

    def machines(self) -> Iterator[Machine]:
        """Yield every machine, in a stable order."""
        ...

    def machine(self, reference: str) -> Machine:
        """Return the machine with this id, or else the only one with this name.

        Raises `MachineNotFound`, or `RequestInvalid` when several machines have the name.
        """
        ...

    def members(self, selector: Selector) -> Iterator[Machine]:
        """Yield the machines that a selector of many means, in a stable order.

        Raises `RequestInvalid` for a kind that this hypervisor does not have, and when there is nothing of that name.
        """
        ...

    def set_power(self, machine_id: MachineId, power: PowerState) -> None:
        """Switch the machine on or off; nothing happens when it is so already."""
        ...

    def ways(self, machine_id: MachineId) -> tuple[DiskWay, ...]:
        """Return the best way that this process has to each disk of a machine, without opening any.

        What the settings rule out is told; whether a way works shows when a disk is opened. Raises `MachineNotFound`.
        """
        ...


class Snapshots(Protocol):
    """Temporary frozen states. Everything made here carries the caller's tag, so that orphans can be found."""

    def create_snapshot(self, machine_id: MachineId, tag: str, options: SnapshotOptions = AS_IT_IS) -> Snapshot:
        """Freeze all disks of the machine at one moment.

        Idempotent by ``tag``: a second call returns the first call's snapshot, also after a crash in the middle.
        Raises `QuiesceFailed` when the guest has to come to rest and does not.
        """
        ...

    def snapshots(self, machine_id: MachineId) -> list[Snapshot]:
        """Return our snapshots of the machine, oldest first."""
        ...

    def open_snapshots(self) -> Iterator[Snapshot]:
        """Yield every snapshot of ours at any machine, whoever of us made it."""
        ...

    def remove_snapshot(self, machine_id: MachineId, snapshot_id: SnapshotId) -> None:
        """Remove a snapshot; nothing happens when it is gone already."""
        ...

    def remove_tagged(self, machine_id: MachineId, tag: str) -> int:
        """Remove our snapshots with this tag, and what an earlier removal of them has left; return how many there were.

        Returns only when nothing of them is left, also where none was found. A machine that is gone has none.
        """
        ...

    def open_disk(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        """Open a frozen disk. Raises `SnapshotNotFound` or `DiskNotFound`."""
        ...

    def disk_place(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> str:
        """Return where the bytes of a frozen disk lie now, as a text that is another one when they have moved.

        Empty where they never do. A disk that moved while it was read may have given bytes of two states. Raises
        `SnapshotNotFound` when the snapshot has gone.
        """
        ...

    def changed_spans(
        self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey, since: ChangeId
    ) -> Iterator[Span]:
        """Yield, sorted, every span that may differ between the state named by ``since`` and the snapshot.

        Bytes behind the end of a disk that was smaller then count as zeros. Raises `ChangeTrackingLost`, at the
        call or while iterating, when that cannot be told, or not to the end; the caller then compares by digest what
        it was not told of.
        """
        ...

    def disk_latency(self, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> DatastoreLatency | None:
        """Return how busy the datastore of a frozen disk is, and what its limits are.

        None where there are no limits, or none are possible. What is not known now has no figure and a reason. Cheap:
        measurements are shared, and made no more often than the limits say. Raises `SnapshotNotFound`.
        """
        ...

    def machine_files(self, machine_id: MachineId, snapshot_id: SnapshotId) -> MachineFiles:
        """Return the small files that describe the machine to its hypervisor, as they are now.

        A file that cannot be read is left out with the reason; the caller looks to what a restore point can keep.
        Raises `SnapshotNotFound`: without the snapshot nobody knows what time the files belong to.
        """
        ...

    def reset_tracking(self, machine_id: MachineId) -> None:
        """Begin the change tracking of a machine anew: no earlier state can be asked about any more.

        Raises `SnapshotRefused` when the machine has snapshots that are in the way.
        """
        ...


class RestoreTargets(Protocol):
    """Places a restore writes to. Nothing live changes before `commit_target`, or `abandon_target` gives it back."""

    def prepare_target(
        self,
        token: str,
        machine: Machine,
        disks: Sequence[Disk],
        replaces: MachineId | None,
        placement: Placement = ANYWHERE,
    ) -> RestoreTarget:
        """Make empty disks to restore into; idempotent by ``token``, which keeps what was written before.

        ``machine`` is the machine as it was captured, under the name it shall get. With ``replaces`` the commit puts
        the disks in place of those of that machine with the same keys and leaves its others alone; without it the
        commit makes a new machine. A disk whose key the replaced machine does not have is added to it.

        ``placement`` says where a new machine goes and which identifiers it keeps; disks that replace others go where
        their machine is.

        Raises `TargetExists` when a new machine's name is taken, `IdentityTaken` when an identifier that it shall
        keep is, `MachineRunning` when the machine to be replaced is on, `RequestInvalid` for impossible disks or
        when the token stood for another request, and when there is no such place or no such identifier.
        """
        ...

    def find_target(self, token: str, replaces: MachineId | None) -> TargetId | None:
        """Return the target that was prepared for a token, of either kind; None when there is none, or not any more.

        ``replaces`` is as the preparation had it. Nothing is made; what a call that died has begun is waited for.
        """
        ...

    def prepare_in_place(self, token: str, machine_id: MachineId, disks: Sequence[Disk]) -> RestoreTarget:
        """Make a target whose disks begin with what the machine's disks hold now; idempotent by ``token``.

        The bytes of this moment are kept until the commit, and abandoning gives them back. The machine stays off and
        as it is until the target is committed or abandoned, which raise `MachineRunning` when it is on. Where it
        could have written to these very disks they raise `RequestInvalid` when it was on meanwhile, and the target is
        listed as undecided.

        Raises `DiskNotFound` or `RequestInvalid` for disks that the machine does not have with this key and size,
        `MachineRunning` when it is on, `RequestInvalid` when the machine has snapshots that are in the way or the
        token stood for another request.
        """
        ...

    def shares_blocks(self, machine_id: MachineId, disks: Sequence[Disk]) -> bool:
        """Return whether a target in place of these disks takes neither time nor space, nor writes anything twice.

        False also for disks that the machine does not have with this key and size. Raises `MachineNotFound`.
        """
        ...

    def target_changes(self, target_id: TargetId, key: DiskKey, since: ChangeId) -> Iterator[Span]:
        """Yield, sorted, every span of a disk that may differ between the state named by ``since`` and the target.

        Only of a target that was prepared in place. Of what was written into the target, only that is told which
        differed before. Raises `ChangeTrackingLost`, at the call or while iterating, when that cannot be told;
        `RequestInvalid` and `DiskNotFound` as `open_target` does.
        """
        ...

    def open_target(self, target_id: TargetId, key: DiskKey) -> OpenedTarget:
        """Open a disk of a prepared target for writing.

        Raises `RequestInvalid` when there is no such target or it was committed, `DiskNotFound` for a key it
        does not have.
        """
        ...

    def place_machine_files(self, target_id: TargetId, files: Sequence[MachineFile]) -> PlacedFiles:
        """Give the machine that a prepared target becomes those captured files that are of use to it. Idempotent.

        A file that states who the machine is never is: a restored machine is another one. A target that replaces
        disks of a machine gets none. What could not be written is left out with the reason.
        Raises `RequestInvalid` when there is no such target or it was committed.
        """
        ...

    def commit_target(self, target_id: TargetId) -> Machine:
        """Switch the restored disks in, all or none, and return the machine. Idempotent.

        Raises `TargetExists`, `IdentityTaken` or `MachineRunning` when that has come true since the target was
        prepared; the target then stays. Raises `RequestInvalid` when there is no such target.
        """
        ...

    def abandon_target(self, target_id: TargetId) -> None:
        """Remove a prepared target and its disks; nothing happens when it is gone or was committed.

        A commit that was interrupted after it began to change the machine is completed instead.
        """
        ...

    def decide_target(self, target_id: TargetId, choice: Choice) -> None:
        """End a target as the operator has chosen; one that nobody has to decide about is abandoned.

        Going back raises `MachineRunning` when the machine is on. Nothing happens when the target is gone.
        """
        ...

    def targets(self) -> list[RestoreTarget]:
        """Return the targets that were prepared and neither committed nor abandoned."""
        ...


class Attachments(Protocol):
    """Disks that are attached to proxies for a time. What a process that died has left is found here."""

    def attached_disks(self) -> list[AttachedDisk]:
        """Return every disk of ours that is attached to any machine, whoever of us did it."""
        ...

    def detach_disk(self, attached: AttachedDisk) -> None:
        """Detach a disk that `attached_disks` has listed; nothing happens when it is gone, or attached anew since.

        What it kept the removal of its snapshot from folding is folded, also when it was detached before.
        """
        ...


class Provider(Inventory, Snapshots, RestoreTargets, Attachments, Protocol):
    """A hypervisor."""
