"""Restores over the original while calls fail: the machine has its old disks or the restored ones, never both."""

import pytest

from holdfast.errors import RequestInvalid
from holdfast.model.machine import Machine
from holdfast.model.session import Outcome
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

SYSTEM_ERROR = {"fault": "SystemError"}
CALLS = {
    "make": ("CreateVM_Task", 1),
    "note": ("ReconfigVM_Task", 1),
    "detach": ("ReconfigVM_Task", 2),
    "attach": ("ReconfigVM_Task", 3),
    "delete": ("DeleteVirtualDisk_Task", 1),
    "delete-second": ("DeleteVirtualDisk_Task", 2),
    "note-end": ("ReconfigVM_Task", 4),
    "destroy": ("Destroy_Task", 1),
}
ACTIONS = {"fail": SYSTEM_ERROR, "fail-task": SYSTEM_ERROR, "drop": {}, "drop-after": {}}
ALWAYS = {
    ("attach", "fail-task"),
    ("delete", "fail-task"),
    ("attach", "drop-after"),
    ("delete", "drop-after"),
}
CASES = [
    pytest.param(step, action, marks=[] if (step, action) in ALWAYS else pytest.mark.soak, id=f"{step}-{action}")
    for step in CALLS
    for action in ACTIONS
]


async def changed_machine(stage: Stage, name: str) -> tuple[Machine, dict[str, str]]:
    """Return a machine that is off and has changed on both disks since its only point, and what the point holds."""
    machine = stage.machine(name)
    before = stage.content(machine)
    await stage.run(stage.backup(machine))
    stage.switch_off(machine)
    for disk in (0, 1):
        stage.write(machine, 0, MIB, disk=disk)
    return machine, before


async def expect_sound(stage: Stage, machine: Machine, files: list[str]) -> None:
    """Nothing is left, as many files are there as before, and the machine goes on."""
    assert len(stage.files()) == len(files)
    stage.switch_on(machine)
    await stage.run(stage.backup(machine))
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine)


@pytest.mark.parametrize("step, action", CASES)
async def test_a_call_that_fails_once_costs_nothing(stage: Stage, step: str, action: str) -> None:
    machine, before = await changed_machine(stage, f"{step}-{action}")
    files = stage.files()
    method, at = CALLS[step]
    rule = stage.fault(method, action, at=at, **ACTIONS[action])
    result = await stage.run(stage.restore(machine))
    assert stage.hits(rule) == 1
    assert result.session.outcome is Outcome.SUCCESS, result.session.notes
    assert stage.content(machine) == before
    stage.expect_nothing_left(stage.files())
    await expect_sound(stage, machine, files)


@pytest.mark.parametrize(
    "step", ["attach", *(pytest.param(step, marks=pytest.mark.soak) for step in ("make", "detach"))]
)
async def test_a_call_that_is_refused_for_good_leaves_the_old_disks(stage: Stage, step: str) -> None:
    machine, before = await changed_machine(stage, f"{step}-refused")
    files, live = stage.files(), stage.content(machine)
    method, at = CALLS[step]
    stage.fault(method, "fail-task", at=at, fault="InvalidArgument")
    error = await stage.failure(stage.restore(machine))
    assert isinstance(error, RequestInvalid)
    assert "InvalidArgument" in error.message
    assert stage.content(machine) == live != before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


async def test_a_restore_cancelled_in_the_middle_leaves_the_old_disks(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "undecided")
    files, live = stage.files(), stage.content(machine)
    async with stage.in_the_middle(stage.restore(machine), "restore.block_written") as handle:
        await handle.cancel()
    await stage.error_of(handle)
    assert stage.content(machine) == live != before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


async def test_a_vcenter_that_dies_while_disks_are_restored_costs_nothing(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "died-in-restore")
    files = stage.files()
    async with stage.in_the_middle(stage.restore(machine), "restore.block_written") as handle:
        stage.crash()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.content(machine) == before
    await expect_sound(stage, machine, files)
