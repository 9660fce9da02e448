"""A machine is seen as it is, once nobody changes its snapshots, under whatever reference it has."""

import threading
from typing import Any

import pytest
from pyVmomi import vim
from typing_extensions import override

from holdfast.clock import Clock, SystemClock
from holdfast.errors import MachineNotFound
from holdfast.model.ids import MachineId
from holdfast.model.machine import Machine, PowerState
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.inventory import VSphereInventory
from holdfast.providers.vsphere.machine_view import MachineViewer, Patience
from holdfast.providers.vsphere.snapshot_tree import foreign, ours
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.holdfast.providers.vsphere.conftest import SteppingClock

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
PATIENCE_S = 60.0
PATIENCE = Patience(creation_s=PATIENCE_S, removal_s=PATIENCE_S)


def viewer_with(connection: Connection, clock: Clock) -> MachineViewer:
    return MachineViewer(connection, VSphereInventory(connection), clock)


@pytest.fixture
def viewer(connection: Connection) -> MachineViewer:
    return viewer_with(connection, SystemClock())


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    return bench.make_machine("50% / web", [MIB])


def begin(bench: VSphereBench, machine: Machine, action: str) -> Any:
    """Begin a snapshot whose task does not end by itself."""
    bench.client.control("POST", "/faults", {"method": "CreateSnapshot_Task", "action": action, "times": 1})
    vm = bench.vm(machine.machine_id)
    return vm.CreateSnapshot_Task(name="s", description="", memory=False, quiesce=False)


def register_again(bench: VSphereBench, machine: Machine) -> Any:
    vm = bench.vm(machine.machine_id)
    path, pool, folder = vm.config.files.vmPathName, vm.resourcePool, vm.parent
    vm.UnregisterVM()
    return bench.client.wait(folder.RegisterVM_Task(path=path, name="back", asTemplate=False, pool=pool))


def test_a_view_tells_what_matters_of_a_machine(bench: VSphereBench, viewer: MachineViewer, machine: Machine) -> None:
    view = viewer.view(machine.machine_id)
    assert (view.name, view.power, view.changing) == ("50% / web", PowerState.OFF, {})
    assert not view.tree
    assert view.vm._moId == bench.vm(machine.machine_id)._moId
    assert view.values["capability.changeTrackingSupported"] is True
    assert not view.values.get("config.changeTrackingEnabled")
    [store] = view.datastores()
    assert (store.name, store.snapshots) == (bench.store, 0)
    assert 0 < store.free_bytes <= store.capacity_bytes
    bench.provider.set_power(machine.machine_id, PowerState.ON)
    assert viewer.view(machine.machine_id).power is PowerState.ON


def test_a_view_is_one_call_after_the_first(bench: VSphereBench, viewer: MachineViewer, machine: Machine) -> None:
    viewer.view(machine.machine_id)
    bench.client.control("DELETE", "/calls")
    viewer.settled(machine.machine_id, PATIENCE, with_neighbours=True)
    calls = bench.client.control("GET", "/calls")
    assert (calls["RetrievePropertiesEx"], calls.get("FindByUuid", 0)) == (1, 0)


def test_the_tree_tells_ours_from_those_of_others(bench: VSphereBench, viewer: MachineViewer, machine: Machine) -> None:
    bench.client.snapshot(bench.vm(machine.machine_id), "by hand")
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    tree = viewer.view(machine.machine_id).tree
    assert foreign(tree) == ["by hand"]
    assert [(entry.snapshot._moId, label.tag) for entry, label in ours(tree)] == [(taken.snapshot_id, "tag")]


def test_machines_with_snapshots_of_ours_are_counted_when_asked(
    bench: VSphereBench, viewer: MachineViewer, machine: Machine
) -> None:
    beside, theirs = bench.make_machine("beside", [MIB]), bench.make_machine("theirs", [MIB])
    for tag in "12":
        bench.provider.create_snapshot(beside.machine_id, tag)
    bench.client.snapshot(bench.vm(theirs.machine_id), "by hand")
    [alone] = viewer.view(machine.machine_id).datastores()
    [counted] = viewer.view(machine.machine_id, with_neighbours=True).datastores()
    assert (alone.snapshots, counted.snapshots) == (0, 1)


class WatchedClock(SystemClock):
    """A clock that tells when somebody begins to wait."""

    def __init__(self) -> None:
        self.is_waited_with = threading.Event()

    @override
    def monotonic_s(self) -> float:
        self.is_waited_with.set()
        return super().monotonic_s()


def test_a_task_that_runs_is_waited_for(bench: VSphereBench, connection: Connection, machine: Machine) -> None:
    task, clock = begin(bench, machine, "hang"), WatchedClock()

    def end() -> None:
        clock.is_waited_with.wait(PATIENCE_S)
        bench.client.snapshot(bench.vm(machine.machine_id), "by hand")
        task.CancelTask()

    viewer = viewer_with(connection, clock)
    [seen] = viewer.view(machine.machine_id).changing
    assert seen._moId == task._moId
    ending = threading.Thread(target=end)
    ending.start()
    try:
        view = viewer.settled(machine.machine_id, PATIENCE)
    finally:
        ending.join()
    assert view.changing == {}
    assert foreign(view.tree) == ["by hand"]


def test_a_task_that_does_not_end_is_given_up(bench: VSphereBench, connection: Connection, machine: Machine) -> None:
    begin(bench, machine, "hang")
    viewer = viewer_with(connection, SteppingClock(100.0))
    assert len(viewer.settled(machine.machine_id, PATIENCE).changing) == 1


def test_a_task_that_failed_does_not_matter(bench: VSphereBench, viewer: MachineViewer, machine: Machine) -> None:
    rule = {"method": "CreateSnapshot_Task", "action": "fail-task", "fault": "SystemError"}
    bench.client.control("POST", "/faults", rule)
    bench.vm(machine.machine_id).CreateSnapshot_Task(name="s", description="", memory=False, quiesce=False)
    assert not viewer.settled(machine.machine_id, PATIENCE).tree


def test_other_tasks_are_not_waited_for(bench: VSphereBench, viewer: MachineViewer, machine: Machine) -> None:
    bench.client.control("POST", "/faults", {"method": "ReconfigVM_Task", "action": "hang"})
    bench.vm(machine.machine_id).ReconfigVM_Task(vim.vm.ConfigSpec(annotation="x"))
    view = viewer.settled(machine.machine_id, PATIENCE)
    assert view.changing == {}
    assert any(isinstance(one, vim.Task) for one in view.answers)


def test_a_machine_that_was_registered_again_is_found(
    bench: VSphereBench, viewer: MachineViewer, machine: Machine
) -> None:
    before = viewer.view(machine.machine_id)
    again = register_again(bench, machine)
    after = viewer.view(machine.machine_id)
    assert after.vm._moId == again._moId != before.vm._moId
    assert after.name == "back"


def test_a_machine_that_is_gone_is_not_found(bench: VSphereBench, viewer: MachineViewer, machine: Machine) -> None:
    viewer.view(machine.machine_id)
    bench.clear()
    for look in (viewer.view, lambda one: viewer.settled(one, PATIENCE)):
        with pytest.raises(MachineNotFound):
            look(machine.machine_id)


@pytest.mark.parametrize("identity", ["", "50% / web", "00000000-0000-0000-0000-000000000000:1"])
def test_a_machine_that_never_was_is_not_found(viewer: MachineViewer, machine: Machine, identity: str) -> None:
    with pytest.raises(MachineNotFound, match="has no machine"):
        viewer.view(MachineId(identity))
