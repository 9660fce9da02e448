"""Places a restore writes to; served by proxies."""

import msgspec
from temporalio import activity

from holdfast.model.ids import MachineId, ProviderName, TargetId
from holdfast.model.machine import ANYWHERE, Choice, Disk, Machine, Placement, PowerState, RestoreTarget


class PrepareTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Make disks to restore into. ``machine`` carries the name it shall get; see `RestoreTargets.prepare_target`."""

    provider: ProviderName
    token: str
    machine: Machine
    disks: tuple[Disk, ...]
    replaces: MachineId | None = None
    placement: Placement = ANYWHERE
    is_in_place: bool = False
    """Let the disks begin with what the machine in ``replaces`` has; see `RestoreTargets.prepare_in_place`."""
    may_share: bool = False
    """Do so where that costs nothing, see `RestoreTargets.shares_blocks`; False, as earlier versions ask for it."""


class CommitTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Switch restored disks in, then set the power as asked."""

    provider: ProviderName
    target_id: TargetId
    power: PowerState = PowerState.OFF


class AbandonTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Remove the target that was prepared with ``token``, whether or not its preparation was ever confirmed."""

    provider: ProviderName
    token: str
    target_id: TargetId | None = None
    prepared: PrepareTarget | None = None
    """What was asked for; with ``target_id`` None the target is looked for by its token."""
    choice: Choice | None = None
    """What the operator wants the machine to hold; None: what it held before, as long as nothing is lost by that."""


class TargetAbandoned(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was anything to remove."""

    removed: bool


class FindMachine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine with this id or name, as it is now."""

    provider: ProviderName
    reference: str


@activity.defn(name="target.find_machine")
def find_machine(request: FindMachine) -> Machine:
    """Return a machine. Raises `MachineNotFound`."""
    raise AssertionError(request)


@activity.defn(name="target.prepare")
def prepare_target(request: PrepareTarget) -> RestoreTarget:
    """Make disks to restore into; idempotent by token."""
    raise AssertionError(request)


@activity.defn(name="target.commit")
def commit_target(request: CommitTarget) -> Machine:
    """Switch restored disks in; idempotent."""
    raise AssertionError(request)


@activity.defn(name="target.abandon")
def abandon_target(request: AbandonTarget) -> TargetAbandoned:
    """Remove a prepared target; idempotent."""
    raise AssertionError(request)
