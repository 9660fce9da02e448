"""Inventory and snapshots of a provider."""

from collections.abc import Iterator

from temporalio import activity

from activities.binding import implements
from activities.contracts import snapshot
from activities.latency import Waited, wait_until_calm
from activities.openers import ProviderOpener
from activities.pulse import Pulse
from holdfast.clock import Clock
from holdfast.errors import (
    AccessDenied,
    ConfigurationInvalid,
    CredentialMissing,
    HoldfastError,
    LimitExceeded,
    MachineInaccessible,
    MachineNotFound,
    ProviderUnavailable,
    ToolMissing,
)
from holdfast.model.machine import Machine, Snapshot
from holdfast.model.selection import SelectorKind, parse_selector
from holdfast.providers.ports import Provider

_OF_PROVIDER = (ProviderUnavailable, AccessDenied, CredentialMissing, ConfigurationInvalid, ToolMissing)
"""What says nothing of a single machine: none can be found then."""


class SnapshotActivities:
    """Serves `activities.contracts.snapshot`."""

    def __init__(self, providers: ProviderOpener, clock: Clock) -> None:
        self._providers = providers
        self._clock = clock

    @implements(snapshot.find_machines)
    def find_machines(self, request: snapshot.FindMachines) -> snapshot.MachinesFound:
        """Expand the references of a job into machines."""
        with Pulse(self._clock):
            provider = self._providers(request.provider)
            missing: list[str] = []
            problems: list[str] = []
            wanted = request.references
            found = _named(provider, wanted, missing, problems) if wanted else _all(provider, problems)
            notes: list[str] = []
            excluded = _Excluded(provider, request.excluded, notes)
            machines = {m.machine_id: m for m in found if not excluded.has(m)}
        if len(machines) > snapshot.MACHINES_PER_SESSION_MAX:
            raise LimitExceeded(
                f"provider {request.provider} has {len(machines)} machines for one session, "
                f"the most are {snapshot.MACHINES_PER_SESSION_MAX}",
                hint="Name the machines in several jobs.",
            )
        return snapshot.MachinesFound(
            machines=tuple(machines.values()),
            missing=tuple(missing),
            problems=tuple(problems),
            notes=tuple(notes),
        )

    @implements(snapshot.create_snapshot)
    def create_snapshot(self, request: snapshot.CreateSnapshot) -> Snapshot:
        """Freeze a machine; idempotent by tag."""
        with Pulse(self._clock):
            return self._providers(request.provider).create_snapshot(request.machine_id, request.tag, request.options)

    @implements(snapshot.remove_snapshot)
    def remove_snapshot(self, request: snapshot.RemoveSnapshot) -> snapshot.SnapshotRemoved:
        """Remove the snapshot with the tag and all that is left of it.

        A machine that is gone has none, an inaccessible one is waited for.
        """
        with Pulse(self._clock) as pulse:
            provider = self._providers(request.provider)
            waited = Waited()
            if activity.info().attempt == 1:  # one attempt waits, so that the bound holds for all
                waited = self._calm(provider, request, pulse)
            # Another attempt asks for the removal even if no snapshot is there: the one before may have left data.
            removed = provider.remove_tagged(request.machine_id, request.tag)
            return snapshot.SnapshotRemoved(removed=removed, waited_s=waited.seconds, waited_for=waited.reason)

    def _calm(self, provider: Provider, request: snapshot.RemoveSnapshot, pulse: Pulse) -> Waited:
        """Wait until the datastores of the snapshot are calm; for what is not there nobody waits."""
        try:
            tagged = [one for one in provider.snapshots(request.machine_id) if one.tag == request.tag]
        except MachineNotFound:
            return Waited()
        return wait_until_calm(provider, tagged[0], pulse, self._clock) if tagged else Waited()


def _named(
    provider: Provider, references: tuple[str, ...], missing: list[str], problems: list[str]
) -> Iterator[Machine]:
    """Yield the machines that are meant; one that cannot be described hides nothing but itself."""
    for reference in references:
        selector = parse_selector(reference)
        try:
            if selector.kind is SelectorKind.MACHINE:
                yield provider.machine(selector.value)
            else:
                yield from provider.members(selector)
        except _OF_PROVIDER:
            raise
        except MachineInaccessible as error:
            problems.append(f"{reference}: {error.message}")
        except HoldfastError as error:
            missing.append(f"{reference}: {error.message}")


def _all(provider: Provider, problems: list[str]) -> Iterator[Machine]:
    """Yield every machine; one that cannot be described hides nothing but itself."""
    try:
        yield from provider.machines()
    except _OF_PROVIDER:
        raise
    except HoldfastError as error:
        problems.append(error.message)


class _Excluded:
    """The machines that a job leaves out. What cannot be told apart is left in, and said."""

    def __init__(self, provider: Provider, references: tuple[str, ...], notes: list[str]) -> None:
        selectors = [parse_selector(reference) for reference in references]
        self._words = {one.value for one in selectors if one.kind is SelectorKind.MACHINE}
        groups = (one.text for one in selectors if one.kind is not SelectorKind.MACHINE)
        self._ids = {machine.machine_id for machine in _named(provider, tuple(groups), notes, notes)}

    def has(self, machine: Machine) -> bool:
        return machine.machine_id in self._ids or not self._words.isdisjoint((machine.machine_id, machine.name))
