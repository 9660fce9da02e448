"""Waiting for a task ends with its result, its fault, or the end of patience."""

from typing import Any

import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import ProviderUnavailable, SnapshotFailed
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.tasks import wait
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.holdfast.providers.vsphere.conftest import SteppingClock

pytestmark = pytest.mark.vsphere


def begin(bench: VSphereBench, connection: Connection, **rule: Any) -> Any:
    """Begin a snapshot whose task does what the rule says."""
    vm = bench.vm(bench.make_machine("web", [1 << 20]).machine_id)
    if rule:
        bench.client.control("POST", "/faults", {"method": "CreateSnapshot_Task", **rule})
    one = connection.reference(vim.VirtualMachine, vm._moId)
    return one.CreateSnapshot_Task(name="s", description="", memory=False, quiesce=False)


def test_the_result_of_a_task_is_returned(bench: VSphereBench, connection: Connection) -> None:
    task = begin(bench, connection)
    assert isinstance(wait(connection, SystemClock(), task, "freezing", 60.0), vim.vm.Snapshot)


def test_the_fault_of_a_task_is_raised(bench: VSphereBench, connection: Connection) -> None:
    task = begin(bench, connection, action="fail-task", fault="FileLocked")
    with pytest.raises(SnapshotFailed, match="freezing: FileLocked"):
        wait(connection, SystemClock(), task, "freezing", 60.0)


def test_patience_ends(bench: VSphereBench, connection: Connection) -> None:
    task = begin(bench, connection, action="hang")
    with pytest.raises(ProviderUnavailable, match=r"freezing: task task-lab-.* has not ended after 60 s"):
        wait(connection, SteppingClock(25.0), task, "freezing", 60.0)


def test_an_ended_session_does_not_end_the_wait(bench: VSphereBench, connection: Connection) -> None:
    task = begin(bench, connection)
    bench.client.control("POST", "/sessions/expire")
    assert isinstance(wait(connection, SystemClock(), task, "freezing", 60.0), vim.vm.Snapshot)


def test_a_restarted_vcenter_has_forgotten_the_task(bench: VSphereBench, connection: Connection) -> None:
    task = begin(bench, connection, action="hang")
    bench.client.control("POST", "/restart")
    with pytest.raises(ProviderUnavailable):  # the connection was cut
        wait(connection, SystemClock(), task, "freezing", 60.0)
    with pytest.raises(ProviderUnavailable, match="has forgotten task"):
        wait(connection, SystemClock(), task, "freezing", 60.0)
