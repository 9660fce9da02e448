"""What a snapshot froze is remembered; whoever reads its files looks anew."""

from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim

from holdfast.errors import MachineNotFound, SnapshotNotFound
from holdfast.model.ids import MachineId, SnapshotId
from holdfast.model.machine import PowerState, Quiesce, SnapshotOptions
from holdfast.model.spans import Span
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.frozen import RESTLESS, Frozen, FrozenStates
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.snapshot_tree import ours
from holdfast.testing.provider_bench import MIB, Subject
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.running import lab_in
from workers.vcenter_lab import VCenterLab, VCenterSettings

pytestmark = pytest.mark.vsphere

READ = "RetrievePropertiesEx"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VCenterLab]:
    """A vCenter with two datastores."""
    with lab_in(tmp_path_factory.mktemp("vcenter"), VCenterSettings(clusters=0, machines=0, datastores=2)) as lab:
        yield lab


@pytest.fixture
def states(connection: Connection) -> FrozenStates:
    return FrozenStates(connection, VSphereInventory(connection))


@pytest.fixture
def subject(bench: VSphereBench) -> Subject:
    return Subject(bench, "50% / web", MIB, 2 * MIB)


def file_of(found: Frozen) -> str:
    return found.disks[0].file


def calls(bench: VSphereBench, method: str = READ) -> int:
    return int(bench.client.control("GET", "/calls").get(method, 0))


def found_in(bench: VSphereBench, machine_id: MachineId) -> list[tuple[Any, Any]]:
    return ours(bench.vm(machine_id).snapshot.rootSnapshotList)


def test_a_snapshot_tells_what_it_froze(states: FrozenStates, subject: Subject) -> None:
    taken = subject.snapshot("tag")
    found = states.look(subject.machine_id, taken.snapshot_id)
    assert (found.name, found.snapshot._moId) == ("50% / web", taken.snapshot_id)
    assert [(disk.key, disk.size_bytes) for disk in found.disks] == [
        (subject.keys[0], MIB),
        (subject.keys[1], 2 * MIB),
    ]
    assert [disk.change_id for disk in found.disks] == [disk.change_id for disk in taken.disks]
    assert found.configuration == taken.machine.configuration


def test_a_look_is_remembered_and_is_one_call(bench: VSphereBench, states: FrozenStates, subject: Subject) -> None:
    taken = subject.snapshot("tag")
    where = subject.machine_id, taken.snapshot_id
    assert states.remembered(*where) is None
    bench.client.control("DELETE", "/calls")
    found = states.look(*where)
    assert calls(bench) == 1
    assert states.remembered(*where) is found
    assert calls(bench) == 1
    assert states.look(*where) == found
    assert calls(bench) == 2
    states.forget(*where)
    states.forget(*where)
    assert states.remembered(*where) is None


def test_files_follow_the_removal_of_another_snapshot(
    bench: VSphereBench, states: FrozenStates, subject: Subject
) -> None:
    first, second = subject.snapshot("1"), subject.snapshot("2")
    before = states.look(subject.machine_id, second.snapshot_id)
    bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
    after = states.look(subject.machine_id, second.snapshot_id)
    assert file_of(before) != file_of(after)
    assert (before.disks[0].is_child, after.disks[0].is_child) == (True, False)
    assert states.remembered(subject.machine_id, second.snapshot_id) is after


def test_files_follow_a_machine_to_another_datastore(
    bench: VSphereBench, states: FrozenStates, subject: Subject
) -> None:
    subject.write(Span(0, 512))
    taken = subject.snapshot("tag")
    before = states.look(subject.machine_id, taken.snapshot_id)
    [target] = [store for store in bench.client.all(vim.Datastore) if store.name != bench.store]
    spec = vim.vm.RelocateSpec(datastore=target)
    bench.client.wait(bench.vm(subject.machine_id).RelocateVM_Task(spec=spec))
    after = states.look(subject.machine_id, taken.snapshot_id)
    assert file_of(before).startswith(f"[{bench.store}] ")
    assert file_of(after).startswith(f"[{target.name}] ")
    assert after.disks[0].change_id == before.disks[0].change_id


@pytest.mark.parametrize("identity", ["snapshot-0", "nonsense", "snapshot-0 "])
def test_a_snapshot_that_never_was_is_not_found(states: FrozenStates, subject: Subject, identity: str) -> None:
    with pytest.raises(SnapshotNotFound, match=f"has no snapshot {identity}"):
        states.look(subject.machine_id, SnapshotId(identity))


def test_a_snapshot_that_is_gone_is_not_found_and_forgotten(
    bench: VSphereBench, states: FrozenStates, subject: Subject
) -> None:
    taken = subject.snapshot("tag")
    where = subject.machine_id, taken.snapshot_id
    states.look(*where)
    bench.provider.remove_snapshot(*where)
    assert states.remembered(*where) is not None
    with pytest.raises(SnapshotNotFound):
        states.look(*where)
    assert states.remembered(*where) is None


def test_snapshots_of_others_and_of_other_machines_are_not_found(
    bench: VSphereBench, states: FrozenStates, connection: Connection, subject: Subject
) -> None:
    other = Subject(bench, "other", MIB)
    theirs = bench.client.snapshot(bench.vm(other.machine_id), "by hand")
    with pytest.raises(SnapshotNotFound, match="is none of ours"):
        states.look(other.machine_id, SnapshotId(theirs._moId))
    taken = subject.snapshot("tag")
    with pytest.raises(SnapshotNotFound, match="another machine in place of"):
        states.look(other.machine_id, taken.snapshot_id)
    with pytest.raises(MachineNotFound):
        states.of_tree(other.machine_id, connection.reference(vim.vm.Snapshot, taken.snapshot_id))


def test_the_provider_forgets_what_it_removed(bench: VSphereBench, subject: Subject) -> None:
    taken = subject.snapshot("tag")
    change_id = taken.disks[0].change_id
    assert change_id is not None
    where = subject.machine_id, taken.snapshot_id
    bench.client.control("DELETE", "/calls")
    bench.provider.changed_spans(*where, subject.key, change_id)
    assert calls(bench) == 0
    bench.provider.remove_snapshot(*where)
    with pytest.raises(SnapshotNotFound, match="has no snapshot"):
        bench.provider.changed_spans(*where, subject.key, change_id)


def test_entries_that_are_remembered_are_not_read_again(
    bench: VSphereBench, states: FrozenStates, subject: Subject
) -> None:
    taken = [subject.snapshot(tag) for tag in "123"]
    vm, entries = bench.vm(subject.machine_id), found_in(bench, subject.machine_id)
    own = states._connection.reference(vim.VirtualMachine, vm._moId)
    states.look(subject.machine_id, taken[1].snapshot_id)
    bench.client.control("DELETE", "/calls")
    assert states.of_entries(subject.machine_id, own, entries) == taken
    assert calls(bench) == 2
    assert states.of_entries(subject.machine_id, own, entries) == taken
    assert calls(bench) == 2


def test_an_entry_that_disappears_is_left_out(bench: VSphereBench, states: FrozenStates, subject: Subject) -> None:
    first, second = subject.snapshot("1"), subject.snapshot("2")
    vm, entries = bench.vm(subject.machine_id), found_in(bench, subject.machine_id)
    bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
    assert states.of_entries(subject.machine_id, vm, entries) == [second]


def test_the_latest_are_remembered_and_all_are_listed(
    bench: VSphereBench, states: FrozenStates, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.providers.vsphere.frozen.REMEMBERED_MAX", 2)
    taken = [subject.snapshot(tag) for tag in "123"]
    ids = [one.snapshot_id for one in taken]

    def known() -> list[bool]:
        return [states.remembered(subject.machine_id, one) is not None for one in ids]

    for index in (0, 1, 0, 2):
        states.look(subject.machine_id, ids[index])
    assert known() == [True, False, True]
    vm, entries = bench.vm(subject.machine_id), found_in(bench, subject.machine_id)
    assert states.of_entries(subject.machine_id, vm, entries) == taken
    assert sum(known()) == 2


def test_a_guest_that_did_not_rest_is_noted(bench: VSphereBench, subject: Subject) -> None:
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    bench.client.control("POST", "/tools", {"machine": bench.vm(subject.machine_id)._moId, "running": False})
    restless = bench.provider.create_snapshot(subject.machine_id, "1", SnapshotOptions(quiesce=Quiesce.TRY))
    assert restless.notes == (f"crash-consistent: {RESTLESS}",)
    assert bench.provider.create_snapshot(subject.machine_id, "2").notes == ()
    assert [one.notes for one in bench.reconnect().snapshots(subject.machine_id)] == [restless.notes, ()]
