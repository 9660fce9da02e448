"""Quick rollbacks: the machine has what the point holds, or exactly what it had before; little is written."""

import pytest

from holdfast.errors import RequestInvalid, SnapshotRefused
from holdfast.model.ids import ProviderName
from holdfast.model.session import Outcome
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import ANY, DIRECT, HTTPS, NETWORK, PROXY
from tests.scenarios.vsphere.stage import Stage
from tests.scenarios.vsphere.test_replacing import changed_machine, expect_sound
from workers.cli.starts import sweep_start
from workflows.messages import SweepRequest

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

SYSTEM_ERROR = {"fault": "SystemError"}
CALLS = {
    "protect": "CreateSnapshot_Task",
    "ask": "QueryChangedDiskAreas",
    "open": "disk:OPEN",
    "note": "ReconfigVM_Task",
    "end": "RemoveSnapshot_Task",
}
ACTIONS = {"fail": SYSTEM_ERROR, "fail-task": SYSTEM_ERROR, "drop": {}, "drop-after": {}}
ALWAYS = {("protect", "drop-after"), ("end", "drop-after"), ("note", "drop-after"), ("ask", "fail")}
CASES = [
    pytest.param(step, action, marks=[] if (step, action) in ALWAYS else pytest.mark.soak, id=f"{step}-{action}")
    for step, method in CALLS.items()
    for action in ACTIONS
    if method.endswith("_Task") or action in {"fail", "drop"}
]


async def test_a_rollback_brings_every_byte_back_and_writes_little(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "rolled-back")
    files = stage.files()
    result = await stage.run(stage.restore(machine, is_quick=True))
    assert result.session.outcome is Outcome.SUCCESS, result.session.notes
    assert stage.content(machine) == before
    assert {task.figures.stored_bytes for task in result.tasks} == {MIB}, "only what was written since"
    for task in result.tasks:
        assert "quick rollback, changed: the provider tracks changes; 1 MiB written and compared" in task.detail
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


async def test_the_run_after_a_rollback_trusts_no_tracking_of_before(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "tracked-anew")
    await stage.run(stage.restore(machine, is_quick=True))
    stage.switch_on(machine)
    result = await stage.run(stage.backup(machine))
    assert {task.detail.split()[0] for task in result.tasks} == {"compared"}
    assert stage.stored(machine) == stage.content(machine) == before
    stage.write(machine)
    result = await stage.run(stage.backup(machine))
    assert {task.detail.split()[0] for task in result.tasks} == {"changed"}


async def test_only_some_disks_are_rolled_back(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "half-rolled-back")
    live = stage.content(machine)
    first, second = (disk.key for disk in machine.disks)
    await stage.run(stage.restore(machine, is_quick=True, disks=(second,)))
    assert stage.content(machine) == {first: live[first], second: before[second]}


async def test_an_older_point_is_rolled_back_to(stage: Stage) -> None:
    machine = stage.machine("far-back")
    first = stage.content(machine)
    point = (await stage.run(stage.backup(machine))).points[0].point_id
    stage.write(machine)
    await stage.run(stage.backup(machine))
    stage.switch_off(machine)
    stage.write(machine, 0, MIB)
    result = await stage.run(stage.restore(machine, is_quick=True, point=point))
    assert result.session.outcome is Outcome.SUCCESS, result.session.notes
    assert stage.content(machine) == first


async def test_without_tracking_the_disks_are_compared(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "untracked")
    stage.control("POST", "/power-loss", {"machine": machine.name})
    result = await stage.run(stage.restore(machine, is_quick=True))
    assert result.session.outcome is Outcome.WARNING
    assert "compared in full" in result.session.notes[0]
    assert {task.figures.stored_bytes for task in result.tasks} == {MIB}
    assert stage.content(machine) == before


async def test_tracking_that_lies_is_found_out_and_made_good(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "lied-to-in-rollback")
    lie = {"machine": machine.name, "key": int(machine.disks[0].key), "areas": [{"start": 0, "length": MIB // 2}]}
    stage.control("POST", "/tracking-lies", lie)
    result = await stage.run(stage.restore(machine, is_quick=True))
    assert result.session.outcome is Outcome.WARNING
    assert f"change tracking is not to be believed: {MIB // 2} bytes differed" in result.session.notes[0]
    assert stage.content(machine) == before


async def test_a_cancelled_rollback_gives_the_machine_back_what_it_had(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "not-rolled-back")
    files, live = stage.files(), stage.content(machine)
    async with stage.in_the_middle(stage.restore(machine, is_quick=True), "restore.block_written") as handle:
        await handle.cancel()
    await stage.error_of(handle)
    assert stage.content(machine) == live != before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


@pytest.mark.parametrize("step, action", CASES)
async def test_a_call_that_fails_once_costs_nothing(stage: Stage, step: str, action: str) -> None:
    machine, before = await changed_machine(stage, f"rollback-{step}-{action}")
    files = stage.files()
    rule = stage.fault(CALLS[step], action, **ACTIONS[action])
    result = await stage.run(stage.restore(machine, is_quick=True))
    assert stage.hits(rule) == 1
    assert result.session.outcome in {Outcome.SUCCESS, Outcome.WARNING}, result.session.notes
    assert stage.content(machine) == before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


@pytest.mark.parametrize(
    "action", ["drop-after", *(pytest.param(a, marks=pytest.mark.soak) for a in ("fail-task", "drop"))]
)
@pytest.mark.parametrize("method", ["RevertToSnapshot_Task", "RemoveSnapshot_Task"])
async def test_giving_up_survives_a_call_that_fails(stage: Stage, method: str, action: str) -> None:
    machine, before = await changed_machine(stage, f"given-up-{method.lower().replace('_', '-')}-{action}")
    files, live = stage.files(), stage.content(machine)
    async with stage.in_the_middle(stage.restore(machine, is_quick=True), "restore.block_written") as handle:
        rule = stage.fault(method, action, **ACTIONS[action])
        await handle.cancel()
    await stage.error_of(handle)
    assert stage.hits(rule) == 1
    assert stage.content(machine) == live != before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


async def test_a_vcenter_that_dies_in_the_middle_costs_nothing(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "died-in-rollback")
    files = stage.files()
    async with stage.in_the_middle(stage.restore(machine, is_quick=True), "restore.block_written") as handle:
        stage.crash()
    result = await handle.result()
    assert result.session.outcome in {Outcome.SUCCESS, Outcome.WARNING}, result.session.notes
    assert stage.content(machine) == before
    await expect_sound(stage, machine, files)


async def test_a_sweep_gives_back_what_a_terminated_rollback_took(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "terminated")
    files, live = stage.files(), stage.content(machine)
    async with stage.in_the_middle(stage.restore(machine, is_quick=True), "restore.block_written") as handle:
        await handle.terminate()
        assert [target.is_in_place for target in stage.bench.provider.targets()] == [True]
        request = SweepRequest(provider=ANY, proxy=PROXY, age_min_s=0)
    swept = (await stage.run(sweep_start(request))).swept
    assert swept is not None
    assert swept.removed == 1
    assert stage.content(machine) == live != before
    stage.expect_nothing_left(files)
    await expect_sound(stage, machine, files)


async def test_a_machine_is_not_backed_up_while_it_is_rolled_back(stage: Stage) -> None:
    machine, before = await changed_machine(stage, "in-between")
    async with stage.in_the_middle(stage.restore(machine, is_quick=True), "restore.block_written") as handle:
        error = await stage.failure(stage.backup(machine))
    assert isinstance(error, SnapshotRefused)
    assert "is being rolled back" in error.message
    await handle.result()
    assert stage.content(machine) == before


@pytest.mark.parametrize("provider", [DIRECT, HTTPS])
async def test_other_ways_than_the_network_say_that_they_cannot(stage: Stage, provider: ProviderName) -> None:
    machine, before = await changed_machine(stage, f"no-way-{provider}")
    files = stage.files()
    error = await stage.failure(stage.restore(machine, provider, is_quick=True))
    assert isinstance(error, RequestInvalid)
    assert "redo log" in error.message
    assert stage.content(machine) != before
    stage.expect_nothing_left(files)
    await stage.run(stage.restore(machine, NETWORK, is_quick=True))
    assert stage.content(machine) == before


async def test_snapshots_of_others_are_in_the_way(stage: Stage) -> None:
    machine, _ = await changed_machine(stage, "in-the-way")
    taken = stage.vc.snapshot(stage.vm(machine), "before the update")
    live = stage.content(machine)
    error = await stage.failure(stage.restore(machine, is_quick=True))
    assert isinstance(error, RequestInvalid)
    assert "has snapshots" in error.message
    assert stage.content(machine) == live
    stage.vc.remove(taken)
    stage.switch_on(machine)
    await stage.expect_sound(machine)
