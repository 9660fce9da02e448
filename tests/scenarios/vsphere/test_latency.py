"""A slow datastore is spared: nothing new begins there, what runs is slowed down, and both recover with it."""

import asyncio
import contextlib

import pytest
from temporalio.service import RPCError

from holdfast.errors import SnapshotFailed
from holdfast.model.machine import Machine
from holdfast.model.session import Outcome
from tests.scenarios.vsphere.installation import SPARED, VAULT
from tests.scenarios.vsphere.stage import Stage
from tests.workflows.conftest import details
from workflows.queues import machine_backup_id

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

CALM_MS, BUSY_MS, SLOW_MS = 3, 25, 90
"""Below the first limit, between the limits, above the second."""
PATIENCE_S, LOOK_S = 60.0, 0.05


async def wait_for_measurements(stage: Stage, more: int) -> None:
    """Wait until the datastores were measured so many times more."""
    first = measurements(stage)
    for _ in range(int(PATIENCE_S / LOOK_S)):
        if measurements(stage) >= first + more:
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError("nobody measures any more")


def measurements(stage: Stage) -> int:
    return sum(count for name, count in stage.control("GET", "/calls").items() if name.endswith("QueryPerf"))


async def wait_for_step(stage: Stage, machine: Machine, name: str) -> None:
    """Wait until an activity for a machine runs."""
    child = stage.temporal.get_workflow_handle(machine_backup_id(VAULT, machine.machine_id, machine.name))
    for _ in range(int(PATIENCE_S / LOOK_S)):
        with contextlib.suppress(RPCError):  # not begun yet
            pending = (await child.describe()).raw_description.pending_activities
            if any(one.activity_type.name == name for one in pending):
                return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"{name} never runs")


async def test_a_snapshot_is_held_back_and_a_copy_slowed_down_until_the_datastore_recovers(stage: Stage) -> None:
    machine = stage.machine("spared", 240)
    files = stage.files()
    before = stage.content(machine)
    stage.fault("folder:GET", "delay", delay_ms=400, times=0)  # so that the copy lasts for several measurements
    stage.answer_in(machine, SLOW_MS)
    handle = await stage.start(stage.backup(machine, SPARED))
    said = await stage.failure_said(machine, "is 90 ms, nothing new begins from 20 ms on")
    assert said.startswith(f"{SnapshotFailed.code}: machine 'spared' is not frozen: the latency of datastore ")
    assert stage.snapshots() == []
    stage.answer_in(machine, CALM_MS)
    await wait_for_step(stage, machine, "transfer.copy_disk")
    stage.answer_in(machine, SLOW_MS)
    await wait_for_measurements(stage, 3)
    assert (await handle.describe()).close_time is None
    stage.answer_in(machine, CALM_MS)
    result = await handle.result()
    assert (result.session.outcome, result.session.notes) == (Outcome.SUCCESS, ())
    [task] = result.tasks
    assert "slowed down from " in task.detail
    assert "was up to 90 ms, the limit is 30 ms" in task.detail
    assert "to its end" not in task.detail  # it was let go before
    assert stage.stored(machine) == before
    stage.expect_nothing_left(files)


async def test_a_snapshot_is_removed_when_the_datastore_has_recovered(stage: Stage) -> None:
    machine = stage.machine("thawed-late", 64)
    files = stage.files()
    stage.fault("folder:GET", "delay", delay_ms=1000, times=0)  # longer than a measurement is good for
    handle = await stage.start(stage.backup(machine, SPARED))
    await wait_for_step(stage, machine, "transfer.copy_disk")
    stage.answer_in(machine, BUSY_MS)
    await wait_for_step(stage, machine, "snapshot.remove")
    await wait_for_measurements(stage, 2)
    assert len(stage.snapshots()) == 1
    stage.answer_in(machine, CALM_MS)
    result = await handle.result()
    [task] = result.tasks
    assert (result.session.outcome, "slowed down" in task.detail) == (Outcome.SUCCESS, False)
    child = stage.temporal.get_workflow_handle(machine_backup_id(VAULT, machine.machine_id, machine.name))
    text = await details(child)
    assert "Removal" in text
    assert "is 25 ms, nothing new begins from 20 ms on" in text
    stage.expect_nothing_left(files)
