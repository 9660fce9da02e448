"""One machine: what is done in which order, and what is taken back when it cannot be completed."""

import asyncio
from typing import Any

import msgspec
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from activities.boundary import error_from_failure
from activities.contracts import snapshot
from holdfast.errors import (
    CatalogUnavailable,
    DataDamaged,
    DiskReadFailed,
    QuiesceFailed,
    SnapshotFailed,
    SnapshotNotFound,
)
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Quiesce, SkippedDisk
from holdfast.model.plan import ReadDecision, ReadMode, Transport, TransportMode
from holdfast.model.points import Damage, VerifyReport
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details, happens
from tests.workflows.stubs import World, a_machine, then, until_cancelled
from workflows.failures import result_in
from workflows.machine_backup import MachineBackup
from workflows.messages import BackupOptions, MachineBackupRequest, MachineBackupResult

pytestmark = pytest.mark.temporal

STEPS = ["snapshot.create", "repository.begin_point", "transfer.copy_disk"]
UNDONE = ["repository.abandon_point", "snapshot.remove"]


def request_for(stage: Stage, world: World, **options: Any) -> MachineBackupRequest:
    backup = stage.backup()
    return MachineBackupRequest(
        session_id=backup.session_id,
        job=backup.job,
        provider=backup.provider,
        proxy=backup.proxy,
        repository=backup.repository,
        machine=world.machines[0],
        options=BackupOptions(**options),
    )


async def succeed(stage: Stage, world: World, **options: Any) -> MachineBackupResult:
    async with stage.playing(world):
        handle = await stage.start(MachineBackup.run, request_for(stage, world, **options))
        result = await handle.result()
    assert isinstance(result, MachineBackupResult)
    return result


async def fail(stage: Stage, world: World, **options: Any) -> tuple[WorkflowFailureError, MachineBackupResult]:
    async with stage.playing(world):
        failure = await stage.failure(MachineBackup.run, request_for(stage, world, **options))
    result = result_in(failure, MachineBackupResult)
    assert result is not None
    return failure, result


async def cancelled(handle: WorkflowHandle[Any, Any]) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_the_snapshot_goes_when_reading_ends_and_the_point_comes_last(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    result = await succeed(stage, world)
    copies = ["transfer.copy_disk"] * 2
    ends = ["snapshot.remove", "repository.finish_point"]
    assert world.names() == ["snapshot.create", "repository.begin_point", *copies, *ends]
    assert result.outcome is Outcome.SUCCESS
    assert result.point is not None
    assert [task.outcome for task in result.tasks] == [Outcome.SUCCESS] * 2


async def test_tasks_are_recorded_as_done_only_when_there_is_a_point(stage: Stage) -> None:
    world = World()
    await succeed(stage, world)
    order = world.names("catalog", "repository")
    assert order.index("repository.finish_point") < order.index("catalog.record_point")
    assert [task.outcome for task in world.requests("catalog.record_task")] == [Outcome.RUNNING, Outcome.SUCCESS]
    assert world.requests("catalog.record_point")[0].stored_bytes == world.tasks["web", "disk0"].figures.stored_bytes


@pytest.mark.parametrize(
    "broken, undone",
    [
        ("snapshot.create", ["snapshot.remove"]),
        ("repository.begin_point", UNDONE),
        ("transfer.copy_disk", UNDONE),
    ],
)
async def test_a_failed_step_is_taken_back_with_all_before_it(stage: Stage, broken: str, undone: list[str]) -> None:
    world = World()
    world.fail(broken, SnapshotNotFound("snapshot of web is gone"))
    failure, result = await fail(stage, world)
    assert world.names() == [*STEPS[: STEPS.index(broken) + 1], *undone]
    error = error_from_failure(failure)
    assert isinstance(error, SnapshotNotFound)
    assert result.outcome is Outcome.FAILED
    assert result.problem is not None
    assert (result.problem.code, result.notes) == ("snapshot-not-found", ())
    assert world.tasks["web", "disk0"].outcome is Outcome.FAILED


async def test_a_failed_completion_leaves_no_unfinished_point(stage: Stage) -> None:
    world = World()
    world.fail("repository.finish_point", DataDamaged("file f1 does not read back"))
    await fail(stage, world)
    assert world.names()[-3:] == ["snapshot.remove", "repository.finish_point", "repository.abandon_point"]
    assert world.count("snapshot.remove") == 1


async def test_every_undo_step_runs_even_if_another_fails(stage: Stage) -> None:
    world = World()
    world.fail("transfer.copy_disk", SnapshotNotFound("snapshot of web is gone"))
    world.fail("repository.abandon_point", DataDamaged("file f1 cannot be read"))
    _, result = await fail(stage, world)
    assert world.names()[-2:] == UNDONE
    assert result.notes == ("the unfinished restore point is left behind: file f1 cannot be read",)


async def test_a_snapshot_that_cannot_be_removed_is_a_warning_not_a_lost_point(stage: Stage) -> None:
    world = World()
    world.fail("snapshot.remove", SnapshotFailed("snapshot of web is held"))
    result = await succeed(stage, world)
    assert result.outcome is Outcome.WARNING
    assert result.point is not None
    assert result.notes == ("the snapshot is left behind: snapshot of web is held",)
    assert world.count("snapshot.remove") > 100  # half an hour, four times a minute


async def test_a_degraded_choice_is_a_warning(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    usual = world.answers["transfer.copy_disk"]

    def compared(request: Any) -> Any:
        copied = usual(request)
        if request.disk != "disk1":
            return copied
        decision = ReadDecision(mode=ReadMode.COMPARED, reason="change tracking was lost")
        return msgspec.structs.replace(copied, decision=decision, note="read in full")

    world.answers["transfer.copy_disk"] = compared
    result = await succeed(stage, world)
    assert result.outcome is Outcome.WARNING
    assert result.notes == ("web/disk1: read in full",)
    assert [task.outcome for task in result.tasks] == [Outcome.SUCCESS, Outcome.WARNING]
    assert result.tasks[1].detail == "compared: change tracking was lost"


async def test_what_a_snapshot_lacks_and_leaves_out_is_noted(stage: Stage) -> None:
    world = World()
    usual = world.answers["snapshot.create"]
    skipped = (SkippedDisk(label="Hard disk 2", reason="it is shared"),)

    def lacking(request: Any) -> Any:
        made = usual(request)
        machine = msgspec.structs.replace(made.machine, skipped=skipped)
        return msgspec.structs.replace(made, machine=machine, notes=("crash-consistent: no tools",))

    world.answers["snapshot.create"] = lacking
    result = await succeed(stage, world, quiesce=Quiesce.TRY)
    assert world.requests("snapshot.create")[0].options.quiesce is Quiesce.TRY
    assert result.outcome is Outcome.WARNING
    assert result.notes == ("crash-consistent: no tools", "disk Hard disk 2 is not protected: it is shared")
    assert [task.outcome for task in result.tasks] == [Outcome.SUCCESS]


async def test_a_task_tells_over_which_way_its_disk_was_read(stage: Stage) -> None:
    world = World()
    usual = world.answers["transfer.copy_disk"]
    way = Transport(mode=TransportMode.NETWORK, reason="the datastore is not mounted here")
    world.answers["transfer.copy_disk"] = lambda request: msgspec.structs.replace(usual(request), transport=way)
    result = await succeed(stage, world)
    detail = "full over network: no earlier point of this disk; the datastore is not mounted here"
    assert [task.detail for task in result.tasks] == [detail]
    assert world.tasks["web", "disk0"].detail == detail
    assert (result.outcome, result.notes) == (Outcome.SUCCESS, ())


async def test_a_task_tells_that_its_copy_was_slowed_down_which_is_no_warning(stage: Stage) -> None:
    world = World()
    usual = world.answers["transfer.copy_disk"]
    slowed = "slowed down from 12:00:00 UTC to its end"
    world.answers["transfer.copy_disk"] = lambda request: msgspec.structs.replace(usual(request), slowed=slowed)
    result = await succeed(stage, world)
    assert [task.detail for task in result.tasks] == [f"full: no earlier point of this disk; {slowed}"]
    assert (result.outcome, result.notes) == (Outcome.SUCCESS, ())


async def test_the_details_tell_that_the_removal_of_the_snapshot_waited(stage: Stage) -> None:
    world = World()
    waited = snapshot.SnapshotRemoved(removed=1, waited_s=61.0, waited_for="datastore ds1 is slow")
    world.answers["snapshot.remove"] = lambda _: waited
    async with stage.playing(world):
        handle = await stage.start(MachineBackup.run, request_for(stage, world))
        assert (await handle.result()).outcome is Outcome.SUCCESS
        assert "datastore ds1 is slow" in await details(handle)


async def test_a_guest_that_does_not_come_to_rest_fails_the_machine_at_once(stage: Stage) -> None:
    world = World()
    world.fail("snapshot.create", QuiesceFailed("machine 'web' runs without tools"))
    _, result = await fail(stage, world, quiesce=Quiesce.REQUIRE)
    assert result.problem is not None
    assert result.problem.code == "quiesce-failed"
    assert world.names()[-1] == "snapshot.remove"


async def test_a_hiccup_is_survived(stage: Stage) -> None:
    world = World()
    world.fail(
        "transfer.copy_disk",
        DiskReadFailed("disk0 of web does not answer"),
        where=lambda _: world.count("transfer.copy_disk") < 4,
    )
    assert (await succeed(stage, world)).outcome is Outcome.SUCCESS
    assert world.count("transfer.copy_disk") == 4


async def test_a_cancelled_machine_leaves_nothing(stage: Stage) -> None:
    world = World()
    world.answers["transfer.copy_disk"] = then(until_cancelled, world.answers["transfer.copy_disk"])
    async with stage.playing(world):
        handle = await stage.start(MachineBackup.run, request_for(stage, world))
        await world.until(lambda: world.count("transfer.copy_disk") == 1)
        await handle.cancel()
        await cancelled(handle)
        assert "cancelled" in await details(handle)
    assert world.names() == [*STEPS, *UNDONE]
    assert world.tasks["web", "disk0"].outcome is Outcome.CANCELLED


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancellation_that_a_step_ignores_still_counts(dev_stage: Stage, step: str) -> None:
    world = World()
    release = asyncio.Event()

    async def ignore_cancellation() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    world.answers[step] = then(ignore_cancellation, world.answers[step])
    async with dev_stage.playing(world):
        handle = await dev_stage.start(MachineBackup.run, request_for(dev_stage, world))
        await world.until(lambda: world.count(step) == 1)
        await handle.cancel()
        await happens(handle, EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
        release.set()
        await cancelled(handle)
    assert world.names()[STEPS.index(step) + 1 :] == [name for name in UNDONE if step != STEPS[0] or name != UNDONE[0]]


async def test_a_cancellation_during_cleaning_up_does_not_stop_it(dev_stage: Stage) -> None:
    world = World()
    release = asyncio.Event()
    world.fail("transfer.copy_disk", SnapshotNotFound("snapshot of web is gone"))

    async def wait() -> None:
        await release.wait()

    world.answers["repository.abandon_point"] = then(wait, world.answers["repository.abandon_point"])
    async with dev_stage.playing(world):
        handle = await dev_stage.start(MachineBackup.run, request_for(dev_stage, world))
        await world.until(lambda: world.count("repository.abandon_point") == 1)
        await handle.cancel()
        await happens(handle, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        release.set()
        await cancelled(handle)
    assert world.names()[-2:] == UNDONE


async def test_a_cancellation_during_completion_comes_too_late(dev_stage: Stage) -> None:
    world = World()
    release = asyncio.Event()

    async def wait() -> None:
        await asyncio.shield(release.wait())

    world.answers["repository.finish_point"] = then(wait, world.answers["repository.finish_point"])
    async with dev_stage.playing(world):
        handle = await dev_stage.start(MachineBackup.run, request_for(dev_stage, world))
        await world.until(lambda: world.count("repository.finish_point") == 1)
        await handle.cancel()
        await happens(handle, EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED)
        release.set()
        result = await handle.result()
    assert result.point is not None
    assert world.tasks["web", "disk0"].outcome is Outcome.SUCCESS
    assert world.count("repository.abandon_point") == 0


async def test_a_catalog_that_is_away_costs_a_note_and_no_point(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    for name in ("catalog.record_task", "catalog.record_point"):
        world.fail(name, CatalogUnavailable("the catalog is locked"))
    result = await succeed(stage, world)
    assert result.point is not None
    assert result.outcome is Outcome.WARNING
    assert result.notes == ("the catalog does not know everything of this session: the catalog is locked",)


async def test_a_new_point_is_verified_when_that_was_asked_for(stage: Stage) -> None:
    world = World()
    result = await succeed(stage, world, verify=True)
    assert world.names()[-1] == "repository.verify"
    assert world.requests("repository.verify")[0].numbers == (1,)
    assert result.outcome is Outcome.SUCCESS


async def test_a_new_point_that_does_not_verify_fails_the_machine_and_is_kept(stage: Stage) -> None:
    world = World()
    damage = Damage(
        chain="c1", point=1, machine="web", disk=DiskKey("disk0"), offset=0, length=1, file="f1", reason="bit rot"
    )
    world.answers["repository.verify"] = lambda _: VerifyReport(points=1, damages=(damage,))
    _, result = await fail(stage, world, verify=True)
    assert result.problem is not None
    assert result.problem.code == "data-damaged"
    assert result.point is not None
    assert world.count("repository.abandon_point") == 0


async def test_a_disk_that_the_job_leaves_out_is_neither_in_the_point_nor_copied(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    result = await succeed(stage, world, excluded_disks=("web/disk1", "other/*"))
    assert result.outcome is Outcome.SUCCESS
    (begun,) = world.requests("repository.begin_point")
    assert [disk.key for disk in begun.snapshot.machine.disks] == ["disk0", "disk2"]
    asked = world.requests("transfer.copy_disk")
    assert [(copy.disk, copy.is_only_disk) for copy in asked] == [("disk0", False), ("disk2", False)]


@pytest.mark.parametrize("is_wanted", [True, False])
async def test_the_job_says_what_is_left_out_of_guests(stage: Stage, is_wanted: bool) -> None:
    world = World()
    masks = ("/var/tmp/*",) if is_wanted else ()
    await succeed(stage, world, exclude_swap=is_wanted, exclude_deleted=not is_wanted, exclude_files=masks)
    (asked,) = world.requests("transfer.copy_disk")
    assert (asked.exclude_swap, asked.exclude_deleted, asked.exclude_files) == (is_wanted, not is_wanted, masks)
    assert asked.is_only_disk


async def test_what_was_left_out_stands_behind_the_task(stage: Stage) -> None:
    world = World()
    usual = world.answers["transfer.copy_disk"]
    told = "left out 5 bytes of swap"
    world.answers["transfer.copy_disk"] = lambda request: msgspec.structs.replace(usual(request), left_out=told)
    (task,) = (await succeed(stage, world)).tasks
    assert task.detail == f"full: no earlier point of this disk; {told}"


async def test_the_point_and_the_disks_can_be_read_in_the_details(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        handle = await stage.start(MachineBackup.run, request_for(stage, world))
        await handle.result()
        text = await details(handle)
    assert "| web | disk0 | done | 1 GiB | 1 GiB |" in " ".join(text.split())
    assert "no chain of this machine yet" in text
    assert "open for" in text
