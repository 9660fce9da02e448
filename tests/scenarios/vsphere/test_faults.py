"""A vCenter that loses answers, sessions, tasks or itself: the session ends right, and nothing of it stays."""

import pytest
from temporalio.client import WorkflowFailureError

from holdfast.errors import ProviderUnavailable
from holdfast.model.ids import ProviderName
from holdfast.model.session import Outcome
from holdfast.providers.vsphere import snapshots
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import ANY, DIRECT, HTTPS
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

LARGE = 24
"""MiB of a disk of which much is unread when its first unit is written."""
COMMITS = 64
"""MiB of a disk that is far from its end at its first commit."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshot tasks are given up after half a second."""
    monkeypatch.setattr(snapshots, "CREATE_PATIENCE_S", 0.5)


async def test_a_snapshot_whose_answer_was_lost_is_found_and_no_second_is_taken(stage: Stage) -> None:
    machine = stage.machine("lost-answer")
    files = stage.files()
    await stage.run(stage.backup(machine))  # switches change tracking on
    rule = stage.fault("CreateSnapshot_Task", "drop-after")
    stage.control("DELETE", "/calls")
    result = await stage.run(stage.backup(machine))
    assert stage.hits(rule) == 1
    assert stage.control("GET", "/calls")["CreateSnapshot_Task"] == 1
    assert result.session.outcome is Outcome.SUCCESS
    await stage.expect_sound(machine, files)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("action", [pytest.param("hang", marks=pytest.mark.soak), "hang-after"])
async def test_a_snapshot_task_that_never_ends_is_given_up_and_looked_for(stage: Stage, action: str) -> None:
    machine = stage.machine(f"slow-{action}")
    files = stage.files()
    await stage.run(stage.backup(machine))
    stage.fault("CreateSnapshot_Task", action)
    result = await stage.run(stage.backup(machine))
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


@pytest.mark.usefixtures("impatient")
async def test_a_vcenter_that_never_takes_snapshots_is_said_and_can_be_left(stage: Stage) -> None:
    machine = stage.machine("frozen-vcenter")
    await stage.run(stage.backup(machine))
    files, points = stage.files(), stage.points(machine)
    stage.fault("CreateSnapshot_Task", "hang", times=0)
    handle = await stage.start(stage.backup(machine))
    said = await stage.failure_said(machine, "taking a snapshot")
    assert ProviderUnavailable.code in said
    assert f"taking a snapshot of machine '{machine.name}': task task-" in said
    assert "has not ended after" in said
    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert stage.points(machine) == points
    stage.restart()  # which forgets the tasks that never end
    await stage.expect_sound(machine, files)


async def test_a_session_of_vcenter_that_ended_is_renewed_wherever_that_is_noticed(stage: Stage) -> None:
    machine = stage.machine("logged-out", LARGE)
    files = stage.files()
    await stage.run(stage.backup(machine))
    stage.expire_sessions()
    async with stage.in_the_middle(stage.backup(machine, HTTPS, full=True)) as handle:
        stage.expire_sessions()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    async with stage.in_the_middle(stage.backup(machine, full=True), "finish.completed") as handle:
        stage.expire_sessions()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    await stage.expect_sound(machine, files)


@pytest.mark.parametrize("provider", [pytest.param(DIRECT, marks=pytest.mark.soak), HTTPS])
async def test_a_vcenter_that_restarts_in_the_middle_costs_no_point(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"restarted-{provider}", LARGE)
    files = stage.files()
    async with stage.in_the_middle(stage.backup(machine, provider)) as handle:
        stage.restart()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


@pytest.mark.parametrize("provider", [pytest.param(DIRECT, marks=pytest.mark.soak), HTTPS])
async def test_a_vcenter_that_dies_in_the_middle_costs_no_point(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"died-{provider}", LARGE)
    await stage.run(stage.backup(machine))
    files = stage.files()
    async with stage.in_the_middle(stage.backup(machine, provider, full=True)) as handle:
        stage.crash()
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


async def test_a_transfer_that_broke_off_goes_on_at_its_last_commit(stage: Stage) -> None:
    machine = stage.machine("broken-off", COMMITS)
    files = stage.files()
    rule = stage.fault("folder:GET", "drop", after_bytes=MIB // 2, at=8, times=8)
    result = await stage.run(stage.backup(machine, HTTPS))
    assert stage.hits(rule) == 8
    assert result.session.outcome is Outcome.SUCCESS
    figures = result.session.figures
    # What was read ahead may have been enough to get over the gap.
    assert figures.resent_bytes < 48 * MIB
    assert COMMITS * MIB <= figures.stored_bytes < (COMMITS + 48) * MIB
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


@pytest.mark.tools("nbdkit")
async def test_a_datastore_that_is_not_mounted_any_more_is_read_another_way_and_that_is_said(stage: Stage) -> None:
    machine = stage.machine("unmounted")
    files = stage.files()
    stage.unmount()
    try:
        result = await stage.run(stage.backup(machine))
    finally:
        stage.mount()
    assert result.session.outcome is Outcome.WARNING
    for disk in machine.disks:
        [note] = [note for note in result.session.notes if f"{machine.name}/{disk.key}" in note]
        assert "read over network because better ways failed: direct: " in note
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


async def test_where_no_way_works_each_is_named(stage: Stage) -> None:
    machine = stage.machine("unreachable")
    files = stage.files()
    stage.unmount()
    try:
        handle = await stage.start(stage.backup(machine, DIRECT))
        said = await stage.failure_said(machine, "cannot be read")
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    finally:
        stage.mount()
    assert "disk-read-failed" in said
    assert "direct: " in said
    assert stage.points(machine) == 0
    await stage.expect_sound(machine, files)


@pytest.mark.parametrize("provider", [pytest.param(ANY, marks=pytest.mark.soak), HTTPS])
async def test_a_session_cancelled_in_the_middle_of_a_disk_leaves_nothing(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"cancelled-{provider}", LARGE)
    files = stage.files()
    async with stage.in_the_middle(stage.backup(machine, provider)) as handle:
        assert len(stage.snapshots()) == 1
        await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert stage.points(machine) == 0
    await stage.expect_sound(machine, files)
