"""Targets in place on a vCenter: what keeps the bytes of before is found again and never taken for something else."""

import msgspec
import pytest

from activities.contracts.target import AbandonTarget, PrepareTarget, TargetAbandoned
from activities.target import TargetActivities
from holdfast.clock import SystemClock
from holdfast.errors import DiskNotFound, HoldfastError, MachineRunning, RequestInvalid, SnapshotRefused
from holdfast.model.ids import ProviderName
from holdfast.model.machine import Choice, Placement, PowerState, RestoreTarget
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.checks import target_id_of
from holdfast.providers.vsphere.labels import SnapshotLabel, snapshot_description
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.target_state import WATCH_KEY, in_place
from holdfast.testing.provider_bench import MIB, Subject
from tests.activities.lab import failure, run
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import vim

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]


@pytest.fixture
def subject(bench: VSphereBench) -> Subject:
    subject = Subject(bench, "web", 2 * MIB, 2 * MIB)
    for key in subject.keys:
        subject.write(Span(0, MIB), key)
    return subject


def prepared(bench: VSphereBench, subject: Subject, name: str = "one") -> RestoreTarget:
    return bench.provider.prepare_in_place(name, subject.machine_id, subject.machine.disks)


def overwrite(bench: VSphereBench, target: RestoreTarget) -> None:
    for wanted in target.disks:
        with bench.provider.open_target(target.target_id, wanted.key) as disk:
            disk.write(0, memoryview(b"x" * MIB))
            disk.flush()


def test_what_protects_a_machine_is_no_snapshot_of_a_backup(bench: VSphereBench, subject: Subject) -> None:
    prepared(bench, subject)
    assert bench.provider.snapshots(subject.machine_id) == []
    assert list(bench.provider.open_snapshots()) == []
    [entry] = bench.vm(subject.machine_id).snapshot.rootSnapshotList
    bench.provider.remove_snapshot(subject.machine_id, entry.snapshot._moId)
    assert bench.vm(subject.machine_id).snapshot is not None
    assert "Do not remove it" in entry.description


def test_a_machine_is_neither_frozen_nor_reset_while_it_is_written_to(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    with pytest.raises(SnapshotRefused, match="is being rolled back"):
        subject.snapshot("tag")
    with pytest.raises(SnapshotRefused):
        bench.provider.reset_tracking(subject.machine_id)
    bench.provider.abandon_target(target.target_id)
    subject.snapshot("tag")


def test_two_rollbacks_of_a_machine_do_not_meet(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    with pytest.raises(RequestInvalid, match="by another session"):
        prepared(bench, subject, "another")
    assert bench.provider.targets() == [target]


def test_a_full_restore_does_not_replace_disks_that_are_written_to(bench: VSphereBench, subject: Subject) -> None:
    prepared(bench, subject)
    with pytest.raises(RequestInvalid, match="has snapshots"):
        bench.provider.prepare_target("full", subject.machine, subject.machine.disks, subject.machine_id)


def test_a_machine_that_was_switched_on_is_left_alone(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    with pytest.raises(MachineRunning):
        bench.provider.open_target(target.target_id, subject.key)
    with pytest.raises(MachineRunning):
        bench.provider.abandon_target(target.target_id)


def started(bench: VSphereBench, subject: Subject) -> RestoreTarget:
    """Roll a machine back half-way, and let it be switched on, write, and be switched off again."""
    target = prepared(bench, subject)
    overwrite(bench, target)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    subject.write(Span(MIB, MIB))
    bench.provider.set_power(subject.machine_id, PowerState.OFF)
    return target


def test_what_a_machine_wrote_while_it_was_on_is_never_taken_back(bench: VSphereBench, subject: Subject) -> None:
    target = started(bench, subject)
    before = bench.read_live(subject.machine_id, subject.key)
    for late in (bench.provider.abandon_target, bench.provider.commit_target):
        with pytest.raises(RequestInvalid, match="was switched on since"):
            late(target.target_id)
    with pytest.raises(RequestInvalid, match="was switched on since"):
        bench.provider.open_target(target.target_id, subject.key)
    assert bench.read_live(subject.machine_id, subject.key) == before
    [left] = bench.provider.targets()
    assert "was switched on since" in left.undecided
    with pytest.raises(SnapshotRefused) as refused:
        bench.provider.create_snapshot(subject.machine_id, "tag")
    assert "--keep" in refused.value.hint


def test_the_operator_lets_a_machine_keep_what_it_wrote(bench: VSphereBench, subject: Subject) -> None:
    target = started(bench, subject)
    before = bench.read_live(subject.machine_id, subject.key)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    for _ in range(2):
        bench.provider.decide_target(target.target_id, Choice.KEEP)
    assert bench.read_live(subject.machine_id, subject.key) == before
    assert bench.provider.targets() == []
    assert_unmarked(bench, subject)


def test_the_operator_gives_a_machine_back_what_it_held(bench: VSphereBench) -> None:
    subject = Subject(bench, "web", 2 * MIB)
    before = bench.read_live(subject.machine_id, subject.key)
    target = started(bench, subject)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    with pytest.raises(MachineRunning):
        bench.provider.decide_target(target.target_id, Choice.GO_BACK)
    bench.provider.set_power(subject.machine_id, PowerState.OFF)
    for _ in range(2):
        bench.provider.decide_target(target.target_id, Choice.GO_BACK)
    assert bench.read_live(subject.machine_id, subject.key) == before
    assert bench.provider.targets() == []
    assert_unmarked(bench, subject)


def assert_unmarked(bench: VSphereBench, subject: Subject) -> None:
    vm = bench.vm(subject.machine_id)
    assert vm.snapshot is None
    assert not vm.config.bootOptions.enterBIOSSetup
    assert not [one.value for one in vm.config.extraConfig if one.key == WATCH_KEY and one.value]


@pytest.mark.parametrize("ending", ["commit_target", "abandon_target"])
def test_no_mark_stays_on_a_machine(bench: VSphereBench, subject: Subject, ending: str) -> None:
    target = prepared(bench, subject)
    assert bench.vm(subject.machine_id).config.bootOptions.enterBIOSSetup
    getattr(bench.provider, ending)(target.target_id)
    assert_unmarked(bench, subject)


def test_a_preparation_that_died_before_the_mark_takes_nothing_back(bench: VSphereBench, subject: Subject) -> None:
    for ending in ("abandon", "prepare"):
        rule = {"method": "ReconfigVM_Task", "times": 1, "action": "fail-task", "fault": "FileLocked"}
        bench.client.control("POST", "/faults", rule)
        with pytest.raises(HoldfastError):
            prepared(bench, subject)
        [left] = bench.provider.targets()
        assert left.undecided == ""
        bench.provider.set_power(subject.machine_id, PowerState.ON)
        subject.write(Span(MIB, MIB))
        bench.provider.set_power(subject.machine_id, PowerState.OFF)
        if ending == "prepare":
            assert prepared(bench, subject) == left
        bench.provider.abandon_target(left.target_id)
        subject.assert_live()
        assert_unmarked(bench, subject)


def test_a_rollback_of_an_earlier_version_is_for_the_operator(bench: VSphereBench, subject: Subject) -> None:
    target_id = in_place(target_id_of("one"), subject.machine_id)
    label = SnapshotLabel(tag="one", target_id=target_id, disks=tuple(subject.keys))
    bench.client.snapshot(bench.vm(subject.machine_id), description=snapshot_description(label))
    [left] = bench.provider.targets()
    assert "is not known" in left.undecided
    with pytest.raises(RequestInvalid, match="is not known"):
        bench.provider.abandon_target(target_id)
    bench.provider.decide_target(target_id, Choice.KEEP)
    subject.assert_live()
    assert_unmarked(bench, subject)


def test_a_snapshot_that_came_later_stops_the_writing(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    bench.client.snapshot(bench.vm(subject.machine_id), "by hand")
    with pytest.raises(RequestInvalid, match="got a snapshot"):
        bench.provider.open_target(target.target_id, subject.key)


def test_a_protection_that_somebody_removed_is_missed(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    [entry] = bench.vm(subject.machine_id).snapshot.rootSnapshotList
    bench.client.remove(entry.snapshot)
    with pytest.raises(RequestInvalid, match="no restore target"):
        bench.provider.open_target(target.target_id, subject.key)
    with pytest.raises(RequestInvalid, match="no restore target"):
        bench.provider.commit_target(target.target_id)
    bench.provider.abandon_target(target.target_id)
    subject.assert_live()


def test_an_undo_behind_a_protection_that_somebody_removed_changes_nothing(
    bench: VSphereBench, subject: Subject
) -> None:
    activities = TargetActivities(lambda _: bench.provider, SystemClock())
    machine = subject.machine
    prepare = PrepareTarget(
        provider=ProviderName("vc"),
        token="one",
        machine=machine,
        disks=machine.disks,
        replaces=machine.machine_id,
        is_in_place=True,
    )
    overwrite(bench, run(activities.prepare_target, prepare))
    bench.client.wait(bench.vm(subject.machine_id).RemoveAllSnapshots_Task())
    abandon = AbandonTarget(provider=prepare.provider, token=prepare.token, prepared=prepare)
    assert run(activities.abandon_target, abandon) == TargetAbandoned(removed=False)
    assert bench.vm(subject.machine_id).snapshot is None
    assert bench.read_live(subject.machine_id, subject.key)[:MIB] == b"x" * MIB


def test_an_undo_of_a_restore_that_was_refused_has_nothing_to_do(bench: VSphereBench, subject: Subject) -> None:
    activities = TargetActivities(lambda _: bench.provider, SystemClock())
    prepare = PrepareTarget(
        provider=ProviderName("vc"),
        token="two",
        machine=msgspec.structs.replace(subject.machine, name="copy"),
        disks=subject.machine.disks,
        replaces=None,
        placement=Placement(datastore="nowhere"),
    )
    failure(RequestInvalid, activities.prepare_target, prepare)
    abandon = AbandonTarget(provider=prepare.provider, token=prepare.token, prepared=prepare)
    assert run(activities.abandon_target, abandon) == TargetAbandoned(removed=False)


def test_only_disks_that_a_snapshot_protects_can_be_written_to(bench: VSphereBench, subject: Subject) -> None:
    vm = bench.vm(subject.machine_id)
    device = bench.device(subject.machine_id, subject.keys[1])
    device.backing.diskMode = "independent_persistent"
    change = vim.vm.device.VirtualDeviceSpec(operation="edit", device=device)
    bench.client.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))
    with pytest.raises(RequestInvalid, match=f"no disk {subject.keys[1]}"):
        prepared(bench, subject)
    target = bench.provider.prepare_in_place("token", subject.machine_id, subject.machine.disks[:1])
    with pytest.raises(DiskNotFound):
        bench.provider.open_target(target.target_id, subject.keys[1])


@pytest.mark.parametrize("mode", [TransportMode.DIRECT, TransportMode.HTTPS, TransportMode.HOT_ADD])
def test_only_the_network_writes_disks_with_snapshots(
    bench: VSphereBench, subject: Subject, mode: TransportMode
) -> None:
    settings = msgspec.structs.replace(bench.settings, transports=(mode,))
    with VSphereProvider(settings, SystemClock()) as provider, pytest.raises(RequestInvalid, match="redo log"):
        provider.prepare_in_place("token", subject.machine_id, subject.machine.disks)
    assert bench.vm(subject.machine_id).snapshot is None


def test_a_commit_that_was_begun_goes_only_forward(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    overwrite(bench, target)
    rule = {"method": "RemoveSnapshot_Task", "times": 1, "action": "fail-task", "fault": "FileLocked"}
    bench.client.control("POST", "/faults", rule)
    with pytest.raises(Exception, match="removing what machine"):
        bench.provider.commit_target(target.target_id)
    assert bench.provider.targets() == [target]
    with pytest.raises(RequestInvalid, match="is being committed"):
        bench.provider.open_target(target.target_id, subject.key)
    bench.provider.abandon_target(target.target_id)
    assert bench.provider.targets() == []
    assert bench.vm(subject.machine_id).snapshot is None
    assert bench.read_live(subject.machine_id, subject.key)[:MIB] == b"x" * MIB


def test_a_token_is_not_used_again_behind_its_commit(bench: VSphereBench, subject: Subject) -> None:
    target = prepared(bench, subject)
    bench.provider.commit_target(target.target_id)
    with pytest.raises(RequestInvalid, match="is committed already"):
        prepared(bench, subject)
    assert bench.vm(subject.machine_id).snapshot is None


@pytest.mark.parametrize("is_tracked", [True, False])
def test_change_tracking_is_begun_anew_where_it_was_on(
    bench: VSphereBench, subject: Subject, *, is_tracked: bool
) -> None:
    vm = bench.vm(subject.machine_id)
    before = None
    if is_tracked:
        first = subject.snapshot("first")
        before = first.disks[0].change_id
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        assert before is not None
    target = prepared(bench, subject)
    overwrite(bench, target)
    bench.provider.commit_target(target.target_id)
    assert bool(vm.config.changeTrackingEnabled) is is_tracked
    assert vm.snapshot is None
    if before is not None:
        after = subject.snapshot("second").disks[0].change_id
        assert after is not None
        assert after.partition("/")[0] != before.partition("/")[0]
