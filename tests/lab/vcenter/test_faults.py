"""The control endpoint makes calls fail, hang, wait and break off, and forgets sessions and tasks."""

import http.client
from typing import Any

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.lab.vcenter.client import Client, disks, vim, vmodl
from workers.vcenter_lab import VCenterAddress

LOST = (http.client.HTTPException, OSError)

pytestmark = pytest.mark.vsphere


@pytest.fixture
def vm(vc: Client) -> Any:
    found = vc.machine("DC0_H0_VM0")
    vc.wait(found.RemoveAllSnapshots_Task())
    return found


def test_a_call_fails_with_the_fault_that_was_named(vc: Client, vm: Any) -> None:
    vc.control("POST", "/faults", {"method": "CreateSnapshot_Task", "action": "fail", "fault": "TaskInProgress"})
    with pytest.raises(vim.fault.TaskInProgress):
        vc.snapshot(vm)
    assert vm.snapshot is None


def test_a_task_fails_with_the_fault_that_was_named(vc: Client, vm: Any) -> None:
    rule = {
        "method": "CreateSnapshot_Task",
        "action": "fail-task",
        "fault": "ApplicationQuiesceFault",
        "message": "vss",
    }
    vc.control("POST", "/faults", rule)
    with pytest.raises(vim.fault.ApplicationQuiesceFault):
        vc.snapshot(vm)
    assert vm.snapshot is None


def test_a_rule_acts_at_the_nth_call_so_many_times_and_for_one_machine(vc: Client, vm: Any) -> None:
    other = vc.machine("DC0_H0_VM1")
    vc.control(
        "POST",
        "/faults",
        {
            "method": "Create*",
            "machine": vm.name,
            "action": "fail",
            "fault": "InvalidState",
            "at": 2,
            "times": 1,
        },
    )
    vc.snapshot(other)
    vc.snapshot(vm)
    with pytest.raises(vim.fault.InvalidState):
        vc.snapshot(vm)
    vc.snapshot(vm)
    [rule] = vc.control("GET", "/faults")
    assert (rule["seen"], rule["hit"]) == (3, 1)
    assert vc.control("DELETE", f"/faults/{rule['id']}") == []


def test_calls_on_a_snapshot_count_for_its_machine(vc: Client, vm: Any) -> None:
    taken = vc.snapshot(vm)
    vc.control(
        "POST",
        "/faults",
        {
            "method": "RemoveSnapshot_Task",
            "machine": vm.name,
            "action": "fail",
            "fault": "FileLocked",
        },
    )
    with pytest.raises(vim.fault.FileLocked):
        vc.remove(taken)


def test_an_answer_is_lost_after_the_work_is_done(vc: Client, vm: Any) -> None:
    vc.control("POST", "/faults", {"method": "CreateSnapshot_Task", "action": "drop-after", "times": 1})
    with pytest.raises(LOST):
        vm.CreateSnapshot_Task(name="lost", description="", memory=False, quiesce=False)
    [node] = vm.snapshot.rootSnapshotList
    assert node.name == "lost"


def test_a_call_is_lost_before_the_work_is_done(vc: Client, vm: Any) -> None:
    vc.control("POST", "/faults", {"method": "CreateSnapshot_Task", "action": "drop", "times": 1})
    with pytest.raises(LOST):
        vm.CreateSnapshot_Task(name="lost", description="", memory=False, quiesce=False)
    assert vm.snapshot is None


@pytest.mark.parametrize("action, is_done", [("hang", False), ("hang-after", True)])
def test_a_task_never_answers_while_the_machine_can_be_read(vc: Client, vm: Any, action: str, is_done: bool) -> None:
    vc.control("POST", "/faults", {"method": "CreateSnapshot_Task", "action": action, "times": 1})
    task = vm.CreateSnapshot_Task(name="slow", description="", memory=False, quiesce=False)
    assert task.info.state == "running"
    assert (vm.snapshot is not None) is is_done
    assert task.info.state == "running"
    assert task.info.entity == vm
    task.CancelTask()
    assert task.info.state == "error"


def test_a_call_is_delayed(vc: Client) -> None:
    vc.control("POST", "/faults", {"method": "CurrentTime", "action": "delay", "delay_ms": 50})
    vc.instance.CurrentTime()
    [rule] = vc.control("GET", "/faults")
    assert rule["hit"] == 1


def test_a_transfer_breaks_off_after_so_many_bytes(vc: Client, vm: Any) -> None:
    flat = disks(vm.config)[0].backing.fileName.replace(".vmdk", "-flat.vmdk")
    vc.control("POST", "/faults", {"method": "folder:GET", "action": "drop", "after_bytes": 1_000_000, "times": 1})
    with pytest.raises(http.client.IncompleteRead) as caught:
        vc.fetch(flat)
    assert len(caught.value.partial) == 1_000_000
    assert vc.fetch(flat)[0] == 200


@pytest.mark.parametrize(
    "rule",
    [
        {"method": "X", "action": "explode"},
        {"method": "X", "action": "fail", "fault": "NoSuchFault"},
        {"method": "X", "action": "fail", "fault": "VirtualDisk"},
        {"method": "", "action": "drop"},
        {"method": "X", "action": "drop", "unknown": 1},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(vc: Client, rule: dict[str, object]) -> None:
    with pytest.raises(ConfigurationInvalid):
        vc.control("POST", "/faults", rule)


def test_calls_are_counted_by_method(vc: Client, vm: Any) -> None:
    vc.control("DELETE", "/calls")
    vc.snapshot(vm)
    counted = vc.control("GET", "/calls")
    assert counted["CreateSnapshot_Task"] == 1
    assert counted["Fetch"] >= 1


def test_sessions_end_when_told(address: VCenterAddress) -> None:
    client = Client(address)
    vm = client.machine("DC0_H0_VM0")
    assert client.control("POST", "/sessions/expire")["ended"] >= 1
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = vm.name
    with pytest.raises(vim.fault.NotAuthenticated):
        client.instance.CurrentTime()
    client.close()
    again = Client(address)
    assert again.machine("DC0_H0_VM0").name == vm._moId or again.instance.CurrentTime()
    again.close()


def test_a_restart_of_vcenter_forgets_sessions_and_tasks_but_no_machine(address: VCenterAddress) -> None:
    client = Client(address)
    vm = client.machine("DC0_H0_VM0")
    client.wait(vm.RemoveAllSnapshots_Task())
    reference, task = vm._moId, vm.CreateSnapshot_Task(name="kept", description="", memory=False, quiesce=False)
    client.wait(task)
    client.control("POST", "/restart")
    with pytest.raises((vim.fault.NotAuthenticated, *LOST)):
        _ = vm.name
    client.close()
    again = Client(address)
    found = again.machine("DC0_H0_VM0")
    assert found._moId == reference
    assert found.snapshot.rootSnapshotList[-1].name == "kept"
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = vim.Task(task._moId, again.instance._stub).info
    again.wait(found.RemoveAllSnapshots_Task())
    again.close()
