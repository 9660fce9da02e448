"""Places a restore writes to."""

from collections.abc import Sequence

import msgspec
import pytest
from typing_extensions import override

from activities.contracts.target import AbandonTarget, CommitTarget, FindMachine, PrepareTarget, TargetAbandoned
from holdfast.errors import MachineNotFound, MachineRunning, RequestInvalid, SnapshotFailed, TargetExists
from holdfast.model.ids import MachineId, TargetId
from holdfast.model.machine import Choice, Disk, Machine, PowerState
from holdfast.providers.local import targets
from holdfast.providers.local.hypervisor import LocalProvider
from tests.activities.lab import KEY, PROVIDER, TOKEN, Lab, failure, run, run_twice

REMOVED, NOTHING = TargetAbandoned(removed=True), TargetAbandoned(removed=False)


def test_a_machine_is_found_by_id_and_by_name(lab: Lab) -> None:
    machine = lab.add_machine("web")
    for reference in ("web", machine.machine_id):
        assert run_twice(lab.targets.find_machine, FindMachine(provider=PROVIDER, reference=reference)) == machine
    failure(MachineNotFound, lab.targets.find_machine, FindMachine(provider=PROVIDER, reference="ghost"))


def test_a_target_is_prepared_once_for_its_token(lab: Lab) -> None:
    machine = lab.add_machine()
    target = run_twice(lab.targets.prepare_target, lab.prepare_request(machine))
    assert lab.provider.targets() == [target]
    assert target.disks == machine.disks


def test_a_commit_makes_the_machine_once_with_the_power_asked_for(lab: Lab) -> None:
    target = lab.prepare(lab.add_machine("web"))
    request = CommitTarget(provider=PROVIDER, target_id=target.target_id, power=PowerState.ON)
    machine = run_twice(lab.targets.commit_target, request)
    assert (machine.name, machine.power) == ("web copy", PowerState.ON)
    assert [found.name for found in lab.provider.machines()].count("web copy") == 1
    assert lab.provider.targets() == []


def test_a_commit_without_power_leaves_the_machine_off(lab: Lab) -> None:
    target = lab.prepare(lab.add_machine())
    request = CommitTarget(provider=PROVIDER, target_id=target.target_id)
    assert run_twice(lab.targets.commit_target, request).power is PowerState.OFF


def test_a_commit_puts_the_disks_in_place_of_those_of_the_machine(lab: Lab) -> None:
    machine = lab.add_machine()
    target = lab.prepare(machine, replaces=machine.machine_id)
    committed = lab.commit(target)
    assert committed.machine_id == machine.machine_id
    assert not any(lab.content(committed)), "nothing was written to the target"


def test_a_target_that_is_gone_cannot_be_committed(lab: Lab) -> None:
    request = CommitTarget(provider=PROVIDER, target_id=TargetId("0" * 32))
    failure(RequestInvalid, lab.targets.commit_target, request)


def test_a_running_machine_is_not_replaced(lab: Lab) -> None:
    machine = lab.add_machine()
    lab.provider.set_power(machine.machine_id, PowerState.ON)
    request = lab.prepare_request(machine, replaces=machine.machine_id)
    failure(MachineRunning, lab.targets.prepare_target, request)
    abandon = AbandonTarget(provider=PROVIDER, token=request.token, prepared=request)
    assert run_twice(lab.targets.abandon_target, abandon) == NOTHING


def test_an_abandoned_target_is_gone_with_its_disks(lab: Lab) -> None:
    target = lab.prepare(lab.add_machine())
    disk = lab.target_disk()
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, target_id=target.target_id)
    assert run(lab.targets.abandon_target, request) == REMOVED
    assert not disk.exists()
    assert lab.provider.targets() == []
    assert run_twice(lab.targets.abandon_target, request) == NOTHING


@pytest.mark.parametrize("choice", Choice)
def test_a_target_ends_as_the_operator_has_chosen(lab: Lab, choice: Choice) -> None:
    machine = lab.add_machine()
    content = lab.content(machine)
    target = run(lab.targets.prepare_target, in_place(lab, machine))
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, target_id=target.target_id, choice=choice)
    assert run(lab.targets.abandon_target, request) == REMOVED
    assert lab.provider.targets() == []
    assert lab.content(machine) == content


def test_a_committed_target_is_not_abandoned(lab: Lab) -> None:
    target = lab.prepare(lab.add_machine())
    machine = lab.commit(target)
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, target_id=target.target_id)
    assert run(lab.targets.abandon_target, request) == NOTHING
    assert lab.provider.disk_paths(machine.machine_id)[KEY].exists()


def test_a_target_whose_preparation_was_never_confirmed_is_removed_too(lab: Lab) -> None:
    prepared = lab.prepare_request(lab.add_machine())
    run(lab.targets.prepare_target, prepared)
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, prepared=prepared)
    assert run(lab.targets.abandon_target, request) == REMOVED
    assert lab.provider.targets() == []


def test_a_target_that_was_refused_leaves_nothing_to_remove(lab: Lab) -> None:
    machine = lab.add_machine("web")
    prepared = msgspec.structs.replace(lab.prepare_request(machine), machine=machine)
    failure(TargetExists, lab.targets.prepare_target, prepared)
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, prepared=prepared)
    assert run_twice(lab.targets.abandon_target, request) == NOTHING


def test_a_target_nobody_asked_for_leaves_nothing_to_remove(lab: Lab) -> None:
    assert run(lab.targets.abandon_target, AbandonTarget(provider=PROVIDER, token=TOKEN)) == NOTHING


def in_place(lab: Lab, machine: Machine) -> PrepareTarget:
    return msgspec.structs.replace(lab.prepare_request(machine, replaces=machine.machine_id), is_in_place=True)


def test_a_target_in_place_begins_with_what_the_machine_has(lab: Lab) -> None:
    machine = lab.add_machine()
    content = lab.content(machine)
    target = run_twice(lab.targets.prepare_target, in_place(lab, machine))
    assert (target.is_in_place, target.replaces) == (True, machine.machine_id)
    assert lab.target_disk().read_bytes() == content
    assert lab.content(lab.commit(target)) == content


def test_only_a_machine_that_is_there_has_present_bytes(lab: Lab) -> None:
    request = msgspec.structs.replace(lab.prepare_request(lab.add_machine()), is_in_place=True)
    failure(RequestInvalid, lab.targets.prepare_target, request)


def test_an_unconfirmed_target_in_place_is_given_up_too(lab: Lab) -> None:
    prepared = in_place(lab, lab.add_machine())
    run(lab.targets.prepare_target, prepared)
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, prepared=prepared)
    assert run(lab.targets.abandon_target, request) == REMOVED
    assert lab.provider.targets() == []


def test_a_target_in_place_that_was_refused_leaves_nothing_to_remove(lab: Lab) -> None:
    machine = lab.add_machine()
    larger = Disk(key=KEY, size_bytes=2 * machine.disks[0].size_bytes)
    prepared = msgspec.structs.replace(in_place(lab, machine), disks=(larger,))
    failure(RequestInvalid, lab.targets.prepare_target, prepared)
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, prepared=prepared)
    assert run(lab.targets.abandon_target, request) == NOTHING


def test_a_target_in_place_that_found_no_space_leaves_nothing_to_remove(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = in_place(lab, lab.add_machine())
    monkeypatch.setattr("holdfast.providers.local.freezing.free_bytes", lambda _: 0)
    monkeypatch.setattr("holdfast.providers.local.freezing.reflink", lambda *_: False)
    failure(SnapshotFailed, lab.targets.prepare_target, prepared)
    request = AbandonTarget(provider=PROVIDER, token=TOKEN, prepared=prepared)
    assert run(lab.targets.abandon_target, request) == NOTHING


class Sharing(LocalProvider):
    """Says that copies share blocks, which costs nothing to try on a small disk."""

    @override
    def shares_blocks(self, machine_id: MachineId, disks: Sequence[Disk]) -> bool:
        return True


@pytest.mark.parametrize("may_share", [True, False])
def test_disks_begin_with_what_is_there_only_where_that_costs_nothing(lab: Lab, *, may_share: bool) -> None:
    lab.provider = Sharing(lab.root / "provider", lab.clock)
    machine = lab.add_machine()
    request = msgspec.structs.replace(lab.prepare_request(machine, replaces=machine.machine_id), may_share=may_share)
    target = run_twice(lab.targets.prepare_target, request)
    assert target.is_in_place is may_share
    assert any(lab.target_disk().read_bytes()) is may_share
    abandon = AbandonTarget(provider=PROVIDER, token=TOKEN, prepared=request)
    assert run(lab.targets.abandon_target, abandon) == REMOVED
    assert lab.provider.targets() == []


def test_disks_that_would_be_copied_begin_empty(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "shares_blocks", lambda *_: False)
    machine = lab.add_machine()
    request = lab.prepare_request(machine, replaces=machine.machine_id)
    target = run(lab.targets.prepare_target, msgspec.structs.replace(request, may_share=True))
    assert not target.is_in_place
