"""Inventory and snapshots."""

from collections.abc import Iterator

import msgspec
import pytest

from activities.contracts import snapshot as contract
from activities.contracts.snapshot import CreateSnapshot, FindMachines, MachinesFound, RemoveSnapshot, SnapshotRemoved
from holdfast.errors import (
    AccessDenied,
    ConfigurationInvalid,
    LimitExceeded,
    MachineNotFound,
    ProviderUnavailable,
    QuiesceFailed,
)
from holdfast.model.ids import MachineId, ProviderName
from holdfast.model.machine import Machine, PowerState, Quiesce, SnapshotOptions
from holdfast.model.selection import Selector, SelectorKind
from holdfast.providers.local.hypervisor import LocalProvider
from tests.activities.lab import PROVIDER, Lab, failure, run, run_twice

NO_MACHINE = MachineId("00000000-0000-4000-8000-000000000000")


def removal(machine_id: MachineId, tag: str) -> RemoveSnapshot:
    return RemoveSnapshot(provider=PROVIDER, machine_id=machine_id, tag=tag)


def test_without_references_every_machine_is_found_once(lab: Lab) -> None:
    machines = {lab.add_machine(name).machine_id for name in ("web", "mail")}
    found = run_twice(lab.snapshots.find_machines, FindMachines(provider=PROVIDER))
    assert {machine.machine_id for machine in found.machines} == machines
    assert (len(found.machines), found.missing, found.problems) == (2, (), ())


def test_ids_and_names_of_one_machine_give_it_once_and_unknown_ones_are_named(lab: Lab) -> None:
    web = lab.add_machine("web")
    lab.add_machine("mail")
    request = FindMachines(provider=PROVIDER, references=("web", web.machine_id, "ghost"))
    found = run(lab.snapshots.find_machines, request)
    assert found.machines == (web,)
    assert [missing.split(":")[0] for missing in found.missing] == ["ghost"]


def test_excluded_machines_are_left_out_by_id_and_by_name(lab: Lab) -> None:
    web, _, last = (lab.add_machine(name) for name in ("web", "mail", "last"))
    request = FindMachines(provider=PROVIDER, excluded=(web.machine_id, "mail"))
    assert run(lab.snapshots.find_machines, request) == MachinesFound(machines=(last,))
    named = msgspec.structs.replace(request, references=("mail", "last"))
    assert run(lab.snapshots.find_machines, named).machines == (last,)


def test_a_group_that_the_provider_does_not_have_is_reported_as_not_found(lab: Lab) -> None:
    web = lab.add_machine("web")
    request = FindMachines(provider=PROVIDER, references=("folder:/prod", "web"))
    found = run_twice(lab.snapshots.find_machines, request)
    assert found == MachinesFound(machines=(web,), missing=("folder:/prod: the local provider has no folders",))


def test_an_excluded_group_that_means_nothing_leaves_nothing_out_and_is_noted(lab: Lab) -> None:
    web, _ = (lab.add_machine(name) for name in ("web", "mail"))
    request = FindMachines(provider=PROVIDER, excluded=("tag:tier/gold", "mail"))
    found = run_twice(lab.snapshots.find_machines, request)
    assert found == MachinesFound(machines=(web,), notes=("tag:tier/gold: the local provider has no tags",))


def test_a_machine_called_like_a_group_is_meant_when_that_is_said(lab: Lab) -> None:
    odd, web = (lab.add_machine(name) for name in ("tag:gold", "web"))
    named = FindMachines(provider=PROVIDER, references=("machine:tag:gold",))
    assert run(lab.snapshots.find_machines, named) == MachinesFound(machines=(odd,))
    left_out = FindMachines(provider=PROVIDER, excluded=("machine:tag:gold",))
    assert run(lab.snapshots.find_machines, left_out) == MachinesFound(machines=(web,))


def test_machines_of_groups_are_found_once_and_excluded_ones_are_not(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = {name: lab.add_machine(name) for name in ("mail", "web-1", "web-2")}

    def members(_: LocalProvider, selector: Selector) -> Iterator[Machine]:
        assert selector.kind is SelectorKind.FOLDER
        return (machine for name, machine in machines.items() if name.startswith(selector.value))

    monkeypatch.setattr(LocalProvider, "members", members)
    request = FindMachines(provider=PROVIDER, references=("web-2", "folder:web", "mail"), excluded=("folder:web-1",))
    found = run(lab.snapshots.find_machines, request)
    assert found == MachinesFound(machines=(machines["web-2"], machines["mail"]))


def test_a_provider_that_is_away_is_no_group_without_machines(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.add_machine("web")

    def members(*_: object) -> Iterator[Machine]:
        raise ProviderUnavailable("away")

    monkeypatch.setattr(LocalProvider, "members", members)
    for request in (
        FindMachines(provider=PROVIDER, references=("folder:web",)),
        FindMachines(provider=PROVIDER, excluded=("folder:web",)),
    ):
        assert not failure(ProviderUnavailable, lab.snapshots.find_machines, request).non_retryable


def test_a_refused_login_is_no_machine_that_is_missing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Machine:
        raise AccessDenied("refused")

    monkeypatch.setattr(LocalProvider, "machine", refused)
    failure(AccessDenied, lab.snapshots.find_machines, FindMachines(provider=PROVIDER, references=("web",)))


def test_a_machine_that_cannot_be_described_hides_no_other(lab: Lab) -> None:
    web, broken = lab.add_machine("web"), lab.add_machine("broken")
    lab.disk_path(broken).unlink()
    found = run(lab.snapshots.find_machines, FindMachines(provider=PROVIDER))
    assert found.machines == (web,)
    assert len(found.problems) == 1
    assert "broken" in found.problems[0]


def test_more_machines_than_a_session_may_have_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "MACHINES_PER_SESSION_MAX", 1)
    lab.add_machine("web")
    lab.add_machine("mail")
    failed = failure(LimitExceeded, lab.snapshots.find_machines, FindMachines(provider=PROVIDER))
    assert failed.non_retryable


def test_an_unknown_provider_is_said(lab: Lab) -> None:
    failure(ConfigurationInvalid, lab.snapshots.find_machines, FindMachines(provider=ProviderName("other")))


def test_a_snapshot_is_made_once_for_its_tag(lab: Lab) -> None:
    machine = lab.add_machine()
    request = CreateSnapshot(provider=PROVIDER, machine_id=machine.machine_id, tag="s1")
    snapshot = run_twice(lab.snapshots.create_snapshot, request)
    assert lab.provider.snapshots(machine.machine_id) == [snapshot]
    assert snapshot.tag == "s1"


def test_a_snapshot_notes_that_its_guest_was_not_asked_to_rest(lab: Lab) -> None:
    machine = lab.add_machine()
    lab.provider.set_power(machine.machine_id, PowerState.ON)
    request = CreateSnapshot(
        provider=PROVIDER, machine_id=machine.machine_id, tag="s1", options=SnapshotOptions(quiesce=Quiesce.TRY)
    )
    assert run_twice(lab.snapshots.create_snapshot, request).notes
    required = msgspec.structs.replace(request, tag="s2", options=SnapshotOptions(quiesce=Quiesce.REQUIRE))
    failure(QuiesceFailed, lab.snapshots.create_snapshot, required)


def test_a_snapshot_of_no_machine_is_an_error(lab: Lab) -> None:
    request = CreateSnapshot(provider=PROVIDER, machine_id=NO_MACHINE, tag="s1")
    failure(MachineNotFound, lab.snapshots.create_snapshot, request)


def test_the_snapshot_with_the_tag_is_removed_and_no_other(lab: Lab) -> None:
    machine = lab.add_machine()
    lab.freeze(machine, "s1")
    kept = lab.freeze(machine, "s2")
    request = removal(machine.machine_id, "s1")
    assert run(lab.snapshots.remove_snapshot, request) == SnapshotRemoved(removed=1)
    assert lab.provider.snapshots(machine.machine_id) == [kept]
    assert run_twice(lab.snapshots.remove_snapshot, request) == SnapshotRemoved(removed=0)


def test_a_machine_that_is_gone_has_no_snapshot_to_remove(lab: Lab) -> None:
    assert run_twice(lab.snapshots.remove_snapshot, removal(NO_MACHINE, "s1")) == SnapshotRemoved(removed=0)
