"""Places a restore writes to."""

from activities.binding import implements
from activities.contracts import target
from activities.openers import ProviderOpener
from activities.pulse import Pulse
from holdfast.clock import Clock
from holdfast.errors import RequestInvalid
from holdfast.model.machine import Machine, PowerState, RestoreTarget
from holdfast.providers.ports import Provider


class TargetActivities:
    """Serves `activities.contracts.target`."""

    def __init__(self, providers: ProviderOpener, clock: Clock) -> None:
        self._providers = providers
        self._clock = clock

    @implements(target.find_machine)
    def find_machine(self, request: target.FindMachine) -> Machine:
        """Return the machine with this id or name."""
        with Pulse(self._clock):
            return self._providers(request.provider).machine(request.reference)

    @implements(target.prepare_target)
    def prepare_target(self, request: target.PrepareTarget) -> RestoreTarget:
        """Make disks to restore into; idempotent by token."""
        with Pulse(self._clock):
            return _prepare(self._providers(request.provider), request)

    @implements(target.commit_target)
    def commit_target(self, request: target.CommitTarget) -> Machine:
        """Switch the restored disks in, and start the machine if that was asked for."""
        with Pulse(self._clock):
            provider = self._providers(request.provider)
            machine = provider.commit_target(request.target_id)
            if request.power is PowerState.OFF:
                return machine
            provider.set_power(machine.machine_id, request.power)
            return provider.machine(machine.machine_id)

    @implements(target.abandon_target)
    def abandon_target(self, request: target.AbandonTarget) -> target.TargetAbandoned:
        """Remove a prepared target, also one whose preparation was never confirmed."""
        with Pulse(self._clock):
            provider = self._providers(request.provider)
            target_id = request.target_id
            if target_id is None and request.prepared is not None:
                # By its token: a preparation without an answer may have made it. Nothing is ever made here.
                target_id = provider.find_target(request.prepared.token, request.prepared.replaces)
            known = {found.target_id for found in provider.targets()}
            if target_id is None or target_id not in known:
                return target.TargetAbandoned(removed=False)
            if request.choice is None:
                provider.abandon_target(target_id)
            else:
                provider.decide_target(target_id, request.choice)
            return target.TargetAbandoned(removed=True)


def _prepare(provider: Provider, request: target.PrepareTarget) -> RestoreTarget:
    if request.is_in_place:
        if request.replaces is None:
            raise RequestInvalid(f"target of {request.machine.name!r}: only a machine that is there has present bytes")
        return provider.prepare_in_place(request.token, request.replaces, request.disks)
    if request.may_share and request.replaces is not None and provider.shares_blocks(request.replaces, request.disks):
        return provider.prepare_in_place(request.token, request.replaces, request.disks)
    return provider.prepare_target(request.token, request.machine, request.disks, request.replaces, request.placement)
