"""Snapshots are taken once and removed wholly, whatever goes wrong between us and the vCenter."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from activities.contracts.snapshot import RemoveSnapshot, SnapshotRemoved
from activities.snapshot import SnapshotActivities
from holdfast.clock import SystemClock
from holdfast.errors import (
    HoldfastError,
    ProviderUnavailable,
    QuiesceFailed,
    SnapshotFailed,
    SnapshotNotFound,
    SnapshotRefused,
)
from holdfast.model.ids import ProviderName
from holdfast.model.machine import Machine, PowerState, Quiesce, Snapshot, SnapshotOptions
from holdfast.model.spans import Span
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.snapshots import SnapshotKeeper
from holdfast.testing.provider_bench import read
from tests.activities.lab import failure, run
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.holdfast.providers.vsphere.conftest import SteppingClock

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
TRY, REQUIRE = SnapshotOptions(quiesce=Quiesce.TRY), SnapshotOptions(quiesce=Quiesce.REQUIRE)
CREATION = ("RetrievePropertiesEx", "FindByUuid", "ReconfigVM_Task", "CreateSnapshot_Task", "RemoveSnapshot_Task")
REMOVAL = ("RetrievePropertiesEx", "FindByUuid", "RemoveSnapshot_Task")


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    return bench.make_machine("web", [2 * MIB])


def provider_with(bench: VSphereBench, **settings: Any) -> VSphereProvider:
    provider = VSphereProvider(msgspec.structs.replace(bench.settings, **settings), SystemClock())
    bench._opened.append(provider)
    return provider


def tree(bench: VSphereBench, machine: Machine) -> list[str]:
    snapshot = bench.vm(machine.machine_id).snapshot
    return [] if snapshot is None else list(names(snapshot.rootSnapshotList))


def names(nodes: list[Any]) -> Iterator[str]:
    for node in nodes:
        yield node.name
        yield from names(node.childSnapshotList)


def break_call(bench: VSphereBench, method: str, action: str, at: int = 1, **more: Any) -> None:
    rule = {"method": method, "action": action, "at": at, "times": 1} | more
    bench.client.control("POST", "/faults", rule)


def is_hit(bench: VSphereBench) -> bool:
    return any(rule["hit"] for rule in bench.client.control("GET", "/faults"))


@pytest.mark.parametrize("action", ["drop", "drop-after"])
@pytest.mark.parametrize("method", CREATION)
def test_a_creation_that_broke_anywhere_is_found_when_it_is_repeated(
    bench: VSphereBench, machine: Machine, method: str, action: str
) -> None:
    for at in range(1, 30):
        bench.client.track_changes(bench.vm(machine.machine_id), enabled=False)
        provider = bench.reconnect()
        provider.targets()  # logs in
        break_call(bench, method, action, at)
        first: Snapshot | None = None
        try:
            first = provider.create_snapshot(machine.machine_id, f"tag {at}")
        except HoldfastError as error:
            if not error.retryable:
                raise
        was_hit = is_hit(bench)
        bench.client.control("DELETE", "/faults")
        again = provider.create_snapshot(machine.machine_id, f"tag {at}")
        assert first is None or first == again
        assert len(tree(bench, machine)) == 1
        provider.remove_snapshot(machine.machine_id, again.snapshot_id)
        assert tree(bench, machine) == []
        if not was_hit:
            return
    raise AssertionError("the calls of one creation have no end")


@pytest.mark.parametrize("action", ["drop", "drop-after"])
@pytest.mark.parametrize("method", REMOVAL)
def test_a_removal_that_broke_anywhere_is_completed_when_it_is_repeated(
    bench: VSphereBench, machine: Machine, method: str, action: str
) -> None:
    for at in range(1, 30):
        taken = bench.provider.create_snapshot(machine.machine_id, "tag")
        provider = bench.reconnect()
        provider.targets()  # logs in
        break_call(bench, method, action, at)
        try:
            provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
        except HoldfastError as error:
            if not error.retryable:
                raise
        was_hit = is_hit(bench)
        bench.client.control("DELETE", "/faults")
        provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
        assert tree(bench, machine) == []
        assert provider.snapshots(machine.machine_id) == []
        if not was_hit:
            return
    raise AssertionError("the calls of one removal have no end")


def test_a_task_that_never_ends_is_given_up_and_its_snapshot_found(bench: VSphereBench, machine: Machine) -> None:
    provider = VSphereProvider(bench.settings, SteppingClock(100.0))
    bench._opened.append(provider)
    bench.provider.remove_snapshot(
        machine.machine_id, bench.provider.create_snapshot(machine.machine_id, "first").snapshot_id
    )
    break_call(bench, "CreateSnapshot_Task", "hang-after")
    with pytest.raises(ProviderUnavailable, match="has not ended after 900 s"):
        provider.create_snapshot(machine.machine_id, "tag")
    assert provider.create_snapshot(machine.machine_id, "tag").tag == "tag"
    assert len(provider.snapshots(machine.machine_id)) == 1


def test_a_task_that_does_nothing_for_ever_is_given_up_and_another_is_begun(
    bench: VSphereBench, machine: Machine
) -> None:
    provider = VSphereProvider(bench.settings, SteppingClock(100.0))
    bench._opened.append(provider)
    bench.provider.remove_snapshot(
        machine.machine_id, bench.provider.create_snapshot(machine.machine_id, "first").snapshot_id
    )
    break_call(bench, "CreateSnapshot_Task", "hang")
    with pytest.raises(ProviderUnavailable, match="has not ended after 900 s"):
        provider.create_snapshot(machine.machine_id, "tag")
    assert provider.create_snapshot(machine.machine_id, "tag").tag == "tag"
    assert len(provider.snapshots(machine.machine_id)) == 1


def test_a_snapshot_whose_creation_was_cut_off_is_listed(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.machine(machine.machine_id)
    break_call(bench, "CreateSnapshot_Task", "drop-after", at=2)  # the first one switches tracking on
    with pytest.raises(ProviderUnavailable):
        bench.provider.create_snapshot(machine.machine_id, "tag")
    [found] = bench.provider.snapshots(machine.machine_id)
    assert found.tag == "tag"


def test_what_a_switch_of_tracking_left_is_removed_by_the_next_snapshot(bench: VSphereBench, machine: Machine) -> None:
    break_call(bench, "RemoveSnapshot_Task", "drop")
    with pytest.raises(ProviderUnavailable):
        bench.provider.create_snapshot(machine.machine_id, "tag")
    assert len(tree(bench, machine)) == 1
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert len(tree(bench, machine)) == 1
    assert taken.notes == ()


@pytest.mark.parametrize("options", [SnapshotOptions(), TRY, REQUIRE])
def test_a_machine_that_is_off_needs_no_rest(bench: VSphereBench, machine: Machine, options: SnapshotOptions) -> None:
    taken = bench.provider.create_snapshot(machine.machine_id, "tag", options)
    assert (taken.notes, taken.machine.power) == ((), PowerState.OFF)


def test_a_machine_that_is_switched_on_before_its_snapshot_counts_as_on(
    bench: VSphereBench, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = SnapshotKeeper._take

    def switched_on(*arguments: Any) -> Any:
        bench.provider.set_power(machine.machine_id, PowerState.ON)
        return usual(*arguments)

    monkeypatch.setattr(SnapshotKeeper, "_take", switched_on)
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert taken.machine.power is PowerState.ON
    assert bench.reconnect().create_snapshot(machine.machine_id, "tag").machine.power is PowerState.ON


def test_a_guest_that_fails_to_rest_is_frozen_as_it_is_and_that_is_said(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    fail = {"fault": "ApplicationQuiesceFault", "message": "writer 7 is stuck"}
    break_call(bench, "CreateSnapshot_Task", "fail-task", at=2, **fail)
    taken = bench.provider.create_snapshot(machine.machine_id, "tag", TRY)
    assert "crash-consistent" in taken.notes[0]
    assert "writer 7 is stuck" in taken.notes[0]
    assert len(tree(bench, machine)) == 1
    assert bench.provider.snapshots(machine.machine_id) == [taken]


def test_a_guest_that_has_to_rest_and_does_not_is_not_frozen(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    break_call(bench, "CreateSnapshot_Task", "fail-task", at=2, fault="ApplicationQuiesceFault")
    with pytest.raises(QuiesceFailed, match="ApplicationQuiesceFault"):
        bench.provider.create_snapshot(machine.machine_id, "tag", REQUIRE)
    assert tree(bench, machine) == []


@pytest.mark.parametrize("options", [TRY, REQUIRE])
def test_what_passes_says_nothing_of_the_guest_and_is_tried_again(
    bench: VSphereBench, machine: Machine, options: SnapshotOptions
) -> None:
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    bench.provider.create_snapshot(machine.machine_id, "first")
    break_call(bench, "CreateSnapshot_Task", "fail-task", fault="FileLocked")
    with pytest.raises(SnapshotFailed, match="FileLocked"):
        bench.provider.create_snapshot(machine.machine_id, "tag", options)
    assert bench.provider.create_snapshot(machine.machine_id, "tag", options).notes == ()


def test_a_guest_without_tools_cannot_rest(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    bench.client.control("POST", "/tools", {"machine": machine.name, "running": False})
    with pytest.raises(QuiesceFailed, match="tools"):
        bench.provider.create_snapshot(machine.machine_id, "tag", REQUIRE)
    assert tree(bench, machine) == []
    taken = bench.provider.create_snapshot(machine.machine_id, "tag", TRY)
    assert "crash-consistent" in taken.notes[0]
    bench.client.control("POST", "/tools", {"machine": machine.name, "running": True})
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    assert bench.provider.create_snapshot(machine.machine_id, "2", REQUIRE).notes == ()


def test_snapshots_of_others_are_left_alone_and_may_be_refused(bench: VSphereBench, machine: Machine) -> None:
    vm = bench.vm(machine.machine_id)
    bench.client.snapshot(vm, "by hand")
    with pytest.raises(SnapshotRefused, match="by hand"):
        provider_with(bench, is_foreign_refused=True).create_snapshot(machine.machine_id, "tag")
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert "while the machine has snapshots" in taken.notes[0]
    assert bench.provider.snapshots(machine.machine_id) == [taken]
    bench.provider.remove_snapshot(machine.machine_id, vm.snapshot.rootSnapshotList[0].snapshot._moId)
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    assert tree(bench, machine) == ["by hand"]


def test_too_many_snapshots_on_a_datastore_are_waited_for(bench: VSphereBench, machine: Machine) -> None:
    other = bench.make_machine("other", [MIB])
    provider = provider_with(bench, snapshots_per_datastore_max=1)
    taken = provider.create_snapshot(machine.machine_id, "tag")
    with pytest.raises(SnapshotFailed, match="has 1 snapshots of ours"):
        provider.create_snapshot(other.machine_id, "tag")
    assert provider.create_snapshot(machine.machine_id, "tag") == taken
    provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    provider.create_snapshot(other.machine_id, "tag")


def test_no_snapshot_grows_on_a_full_datastore(bench: VSphereBench, machine: Machine) -> None:
    with pytest.raises(SnapshotFailed, match="bytes free, less than 101 %"):
        provider_with(bench, free_space_min_percent=101).create_snapshot(machine.machine_id, "tag")
    assert tree(bench, machine) == []


def test_change_tracking_is_switched_on_unless_the_operator_forbids(bench: VSphereBench, machine: Machine) -> None:
    without = provider_with(bench, change_tracking=False)
    taken = without.create_snapshot(machine.machine_id, "tag")
    assert taken.disks[0].change_id is None
    without.remove_snapshot(machine.machine_id, taken.snapshot_id)
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert taken.disks[0].change_id is not None
    assert taken.notes == ()


def test_a_switch_of_tracking_that_fails_is_said_and_does_not_matter(bench: VSphereBench, machine: Machine) -> None:
    break_call(bench, "ReconfigVM_Task", "fail", fault="InvalidState")
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert "changes are not tracked" in taken.notes[0]
    assert taken.disks[0].change_id is None


def test_a_locked_file_keeps_a_removal_open_until_it_is_let_go(bench: VSphereBench, machine: Machine) -> None:
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    bench.client.control("POST", "/locks", {"machine": machine.name})
    for _ in range(2):
        with pytest.raises(SnapshotFailed):
            bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    assert bench.vm(machine.machine_id).runtime.consolidationNeeded
    bench.client.control("DELETE", "/locks", {"machine": machine.name})
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    assert not bench.vm(machine.machine_id).runtime.consolidationNeeded


def test_each_attempt_at_a_removal_folds_what_the_one_before_has_left(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    bench.provider.create_snapshot(machine.machine_id, "tag")
    bench.client.control("POST", "/locks", {"machine": machine.name})
    activities = SnapshotActivities(lambda _: bench.provider, SystemClock())
    request = RemoveSnapshot(provider=ProviderName("vc"), machine_id=machine.machine_id, tag="tag")
    for _ in range(2):
        failure(SnapshotFailed, activities.remove_snapshot, request)
        assert tree(bench, machine) == []
        assert bench.vm(machine.machine_id).runtime.consolidationNeeded
    bench.client.control("DELETE", "/locks", {"machine": machine.name})
    assert run(activities.remove_snapshot, request) == SnapshotRemoved(removed=0)
    assert not bench.vm(machine.machine_id).runtime.consolidationNeeded


def test_a_snapshot_that_others_removed_is_not_found_though_it_was_seen(bench: VSphereBench, machine: Machine) -> None:
    bench.write_live(machine.machine_id, machine.disks[0].key, 0, b"x" * 512)
    earlier = bench.provider.create_snapshot(machine.machine_id, "1")
    bench.provider.remove_snapshot(machine.machine_id, earlier.snapshot_id)
    taken = bench.provider.create_snapshot(machine.machine_id, "2")
    key, since = machine.disks[0].key, earlier.disks[0].change_id
    assert since is not None
    bench.provider.open_disk(machine.machine_id, taken.snapshot_id, key).close()
    bench.reconnect().remove_snapshot(machine.machine_id, taken.snapshot_id)
    with pytest.raises(SnapshotNotFound):
        bench.provider.open_disk(machine.machine_id, taken.snapshot_id, key)
    with pytest.raises(SnapshotNotFound):
        list(bench.provider.changed_spans(machine.machine_id, taken.snapshot_id, key, since))
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)


def test_tracking_is_not_reset_while_there_are_snapshots(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.create_snapshot(machine.machine_id, "tag")
    with pytest.raises(SnapshotRefused, match="has snapshots"):
        bench.provider.reset_tracking(machine.machine_id)


def test_a_machine_whose_hardware_is_too_old_for_tracking_is_frozen_with_a_note(bench: VSphereBench) -> None:
    machine = bench.make_machine("old", [2 * MIB])
    bench.write_live(machine.machine_id, machine.disks[0].key, 0, b"x" * 512)
    bench.client.reconfigure(bench.vm(machine.machine_id), version="vmx-04")
    bench.client.control("DELETE", "/calls")
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert taken.notes == ("changes are not tracked: the machine's hardware version does not support it",)
    assert [disk.change_id for disk in taken.disks] == [None]
    assert bench.client.control("GET", "/calls").get("ReconfigVM_Task", 0) == 0
    with bench.provider.open_disk(machine.machine_id, taken.snapshot_id, machine.disks[0].key) as disk:
        assert read(disk, Span(0, 512)) == b"x" * 512
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    assert tree(bench, machine) == []
