"""A session of a job: every machine gets its chance, and the session says how each ended."""

import asyncio
from typing import Any

import msgspec
import pytest
from temporalio.activity import ActivityCancellationDetails
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.testing import ActivityEnvironment

from activities.boundary import error_from_failure
from activities.contracts import extents, sessions, snapshot
from activities.sessions import SessionActivities
from holdfast.errors import (
    ChangeTrackingLost,
    DiskReadFailed,
    MachineNotFound,
    OperationCancelled,
    ProviderUnavailable,
    RepositoryFull,
    RepositoryUnavailable,
    SessionFailed,
    SnapshotNotFound,
)
from holdfast.model.extents import ExtentFacts
from holdfast.model.ids import MachineId
from holdfast.model.machine import SkippedDisk
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import GIB, World, a_machine, then, until_cancelled
from workflows import queues, search_attributes
from workflows.backup_job import BackupJob
from workflows.failures import result_in
from workflows.messages import BackupOptions, SessionProgress, SessionResult
from workflows.options import OUTAGE

pytestmark = pytest.mark.temporal


def result_of(failure: WorkflowFailureError) -> SessionResult:
    result = result_in(failure, SessionResult)
    assert result is not None
    return result


def of_machine(name: str) -> Any:
    return lambda request: request.machine_id == f"id-{name}"


async def test_every_machine_gets_a_point(stage: Stage) -> None:
    world = World([a_machine("db", disks=2), a_machine("web")])
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.SUCCESS
    assert {point.machine_name for point in result.points} == {"db", "web"}
    assert [one.began for one in world.requests("repository.begin_point")] == [result.session.started] * 2
    assert [(task.machine_name, task.disk) for task in result.tasks] == [
        ("db", "disk0"),
        ("db", "disk1"),
        ("web", "disk0"),
    ]
    assert result.session.figures.size_bytes == 3 * GIB
    assert world.sessions["s1"] == result.session
    assert result.session.provider == "lab"


async def test_one_failed_machine_does_not_stop_the_others(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web"), a_machine("mail")])
    world.fail("snapshot.create", SnapshotNotFound("snapshot of web is gone"), where=of_machine("web"))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup(options=BackupOptions(machines_at_once=1)))
    result = result_of(failure)
    assert {point.machine_name for point in result.points} == {"db", "mail"}
    assert [task.outcome for task in result.tasks] == [Outcome.SUCCESS, Outcome.FAILED, Outcome.SUCCESS]
    assert isinstance(error_from_failure(failure), SnapshotNotFound)
    assert world.sessions["s1"].outcome is Outcome.FAILED


async def test_a_session_fails_with_our_code_after_it_was_written_down(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web")])
    world.fail("snapshot.create", SnapshotNotFound("the snapshot is gone"))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup())
    error = error_from_failure(failure)
    assert isinstance(error, SessionFailed)
    assert "2 of 2 machines failed: db (snapshot-not-found), web (snapshot-not-found)" in error.message
    assert world.names("catalog")[-1] == "catalog.finish_session"
    ended = world.sessions["s1"]
    assert ended.ended is not None
    assert ended.problem is not None
    assert ended.problem.code == "session-failed"


async def test_a_reference_that_matches_nothing_is_a_warning(stage: Stage) -> None:
    world = World()
    world.answers["snapshot.find_machines"] = lambda _: snapshot.MachinesFound(
        machines=world.machines,
        missing=("mial: no machine has the name",),
        problems=("machine.json is not JSON",),
        notes=("tag:gold: there is no such tag",),
    )
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == (
        "not protected: mial: no machine has the name",
        "not protected: machine.json is not JSON",
        "nothing is left out for tag:gold: there is no such tag",
    )


async def test_notes_of_a_machine_name_it_and_warn(stage: Stage) -> None:
    world = World([msgspec.structs.replace(a_machine("web"), skipped=(SkippedDisk(label="d2", reason="shared"),))])
    world.fail("snapshot.remove", ChangeTrackingLost("snapshot is held"))
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.WARNING
    left_out, left_behind = "disk d2 is not protected: shared", "the snapshot is left behind: snapshot is held"
    assert result.session.notes == (f"web: {left_out}", f"web: {left_behind}")


async def test_a_job_that_protects_nothing_is_not_a_success(stage: Stage) -> None:
    world = World()
    world.answers["snapshot.find_machines"] = lambda _: snapshot.MachinesFound(machines=(), missing=("web: none",))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup())
    assert isinstance(error_from_failure(failure), MachineNotFound)
    assert result_of(failure).session.notes == ("not protected: web: none",)


async def test_no_more_machines_at_once_than_asked_for(stage: Stage) -> None:
    world = World([a_machine(f"m{n}") for n in range(5)])
    running = most = 0

    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1

    world.answers["transfer.copy_disk"] = then(count, world.answers["transfer.copy_disk"])
    async with stage.playing(world):
        await stage.run_backup(options=BackupOptions(machines_at_once=2))
    assert most == 2


async def test_a_cancelled_session_cleans_up_every_machine_and_ends_cancelled(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web"), a_machine("mail")])
    usual = world.answers["transfer.copy_disk"]
    hanging = then(until_cancelled, usual)
    world.answers["transfer.copy_disk"] = lambda request: (
        usual(request) if request.machine_id == "id-db" else hanging(request)
    )
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(options=BackupOptions(machines_at_once=1)))
        await world.until(lambda: world.count("transfer.copy_disk") == 2)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert world.names()[-2:] == ["repository.abandon_point", "snapshot.remove"]
    assert world.sessions["s1"].outcome is Outcome.CANCELLED
    outcomes = {name: task.outcome for (name, _), task in world.tasks.items()}
    assert outcomes == {"db": Outcome.SUCCESS, "web": Outcome.CANCELLED, "mail": Outcome.CANCELLED}


async def test_a_scheduled_start_takes_its_session_id_from_the_run(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(session_id=""))
        result = await handle.result()
    assert result.session.session_id == handle.first_execution_run_id
    assert world.requests("snapshot.create")[0].tag == f"holdfast-{handle.first_execution_run_id}"


async def test_a_repository_that_comes_back_is_waited_for(stage: Stage) -> None:
    world = World()
    usual = world.answers["extents.gather_facts"]
    away = ExtentFacts(name="r", reachable=False, problem="not mounted")

    def facts(request: extents.GatherExtentFacts) -> Any:
        return extents.ExtentFactsFound(extents=(away,)) if world.count("extents.gather_facts") < 5 else usual(request)

    world.answers["extents.gather_facts"] = facts
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.SUCCESS


async def test_a_repository_that_stays_away_fails_the_session_before_any_snapshot(stage: Stage) -> None:
    world = World()
    away = ExtentFacts(name="r", reachable=False, problem="not mounted")
    world.answers["extents.gather_facts"] = lambda _: extents.ExtentFactsFound(extents=(away,))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup())
    assert isinstance(error_from_failure(failure), RepositoryUnavailable)
    assert world.names("snapshot") == ["snapshot.find_machines"]


async def test_a_full_repository_fails_the_session_at_once(stage: Stage) -> None:
    world = World()
    full = ExtentFacts(name="r", reachable=True, free_bytes=1)
    world.answers["extents.gather_facts"] = lambda _: extents.ExtentFactsFound(extents=(full,))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup())
    assert isinstance(error_from_failure(failure), RepositoryFull)
    assert world.count("extents.gather_facts") == 1


async def test_a_lasting_outage_ends_the_session_after_half_an_hour_with_its_cause(stage: Stage) -> None:
    world = World()
    world.fail("snapshot.find_machines", ProviderUnavailable("lab does not answer"))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        description = await handle.describe()
    assert isinstance(error_from_failure(caught.value), ProviderUnavailable)
    assert description.close_time is not None
    # No attempt begins that could not end in time.
    assert 0.9 * OUTAGE <= description.close_time - description.start_time <= OUTAGE


async def test_a_machine_that_another_session_protects_fails_alone(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web")])
    usual = world.answers["transfer.copy_disk"]
    hanging = then(until_cancelled, usual)
    world.answers["transfer.copy_disk"] = lambda request: (
        usual(request) if request.machine_id == "id-db" else hanging(request)
    )
    async with stage.playing(world):
        first = await stage.start(BackupJob.run, stage.backup(machines=("web",)))
        await world.until(lambda: world.count("transfer.copy_disk") == 2)
        db = stage.client.get_workflow_handle(queues.machine_backup_id(stage.repository, MachineId("id-db"), "db"))
        await db.result()
        failure = await stage.failure(
            BackupJob.run, stage.backup(session_id="s2", options=BackupOptions(machines_at_once=1))
        )
        await first.cancel()
        with pytest.raises(WorkflowFailureError):
            await first.result()
    result = result_of(failure)
    assert [point.machine_name for point in result.points] == ["db"]
    assert result.session.problem is not None
    assert result.session.problem.code == "chain-busy"


async def test_a_child_that_the_server_started_and_then_refused_is_followed_to_its_end(dev_stage: Stage) -> None:
    # The same machine twice: the second start is refused, and the child that runs is the session's own.
    world = World([a_machine("web"), a_machine("web")])
    served = SessionActivities()
    world.answers["sessions.find_child"] = served.find_child
    world.answers["sessions.follow_child"] = served.follow_child
    both = asyncio.Event()
    usual = world.answers["transfer.copy_disk"]

    async def patient(request: Any) -> Any:
        await both.wait()
        return usual(request)

    world.answers["transfer.copy_disk"] = patient
    async with dev_stage.playing(world):
        handle = await dev_stage.start(BackupJob.run, dev_stage.backup())
        await world.until(lambda: world.count("sessions.follow_child") == 1)
        both.set()
        result = await handle.result()
    assert {point.machine_name for point in result.points} == {"web"}
    assert result.session.outcome is Outcome.SUCCESS
    assert world.count("snapshot.create") == 1


async def test_a_followed_child_is_cancelled_with_the_session_and_its_failure_is_told(dev_stage: Stage) -> None:
    world = World([a_machine("web"), a_machine("web")])
    served = SessionActivities()
    world.answers["sessions.find_child"] = served.find_child
    world.answers["sessions.follow_child"] = served.follow_child
    world.answers["transfer.copy_disk"] = then(until_cancelled, world.answers["transfer.copy_disk"])
    async with dev_stage.playing(world):
        handle = await dev_stage.start(BackupJob.run, dev_stage.backup())
        await world.until(lambda: world.count("sessions.follow_child") == 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(error_from_failure(caught.value), OperationCancelled)
    assert world.count("snapshot.remove") == 1


@pytest.mark.parametrize("is_stopping", [True, False])
async def test_a_worker_that_stops_leaves_a_followed_child_running(dev_stage: Stage, is_stopping: bool) -> None:
    child = await dev_stage.client.start_workflow(
        "Child", id=f"child-{dev_stage.proxy}", task_queue=f"nobody-{dev_stage.proxy}"
    )
    followed = sessions.ChildRun(workflow_id=child.id, run_id=child.result_run_id or "")
    environment = ActivityEnvironment(client=dev_stage.client)
    following = asyncio.ensure_future(environment.run(SessionActivities().follow_child, followed))
    beating = asyncio.Event()
    environment.on_heartbeat = lambda *_: beating.set()
    await beating.wait()
    environment.cancel(ActivityCancellationDetails(worker_shutdown=is_stopping, cancel_requested=not is_stopping))
    if not is_stopping:
        async with asyncio.timeout(60):
            await _cancel_asked(child, wait=True)
        await child.terminate()
    with pytest.raises(asyncio.CancelledError):
        await following
    if is_stopping:
        assert (await child.describe()).status is WorkflowExecutionStatus.RUNNING
        assert not await _cancel_asked(child, wait=False)
        await child.terminate()


async def _cancel_asked(handle: WorkflowHandle[Any, Any], *, wait: bool) -> bool:
    async for event in handle.fetch_history_events(wait_new_event=wait):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
            return True
    return False


async def test_a_terminated_machine_is_named_and_the_others_go_on(dev_stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web")])
    usual = world.answers["transfer.copy_disk"]
    hanging = then(until_cancelled, usual)
    world.answers["transfer.copy_disk"] = lambda request: (
        usual(request) if request.machine_id == "id-db" else hanging(request)
    )
    async with dev_stage.playing(world):
        handle = await dev_stage.start(BackupJob.run, dev_stage.backup())
        await world.until(lambda: world.count("transfer.copy_disk") == 2)
        progress: SessionProgress = await handle.query(BackupJob.progress)
        (child,) = [child for child in progress.children if "web" in child]
        await dev_stage.client.get_workflow_handle(child).terminate("by hand")
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    result = result_of(caught.value)
    assert [point.machine_name for point in result.points] == ["db"]
    assert world.tasks["web", "disk0"].problem is not None
    assert "terminated" in world.tasks["web", "disk0"].problem.message


async def test_result_and_bytes_can_be_searched_for(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web")])
    world.fail("transfer.copy_disk", SnapshotNotFound("snapshot of web is gone"), where=of_machine("web"))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        found = (await handle.describe()).typed_search_attributes
        progress: SessionProgress = await handle.query(BackupJob.progress)
        children = [stage.client.get_workflow_handle(child) for child in progress.children]
        of_children = [(await child.describe()).typed_search_attributes for child in children]
    assert found[search_attributes.RESULT] == "failed"
    assert found[search_attributes.ERROR_CODE] == "snapshot-not-found"
    assert found[search_attributes.STORED_BYTES] == GIB // 2
    assert {(of[search_attributes.MACHINE], of[search_attributes.RESULT]) for of in of_children} == {
        ("db", "success"),
        ("web", "failed"),
    }


async def test_the_details_read_like_a_report(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web")])
    world.fail("snapshot.create", SnapshotNotFound("snapshot of web is gone"), where=of_machine("web"))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        text = await details(handle)
    assert "| db | disk0 | done | 1 GiB | 1 GiB |" in " ".join(text.split())
    assert "web (disk0): snapshot of web is gone" in text
    assert "**snapshot-not-found**" in text
    assert "Somebody removed the snapshot" in text


async def test_disks_that_appear_between_search_and_snapshot_are_protected(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    before = a_machine("web", disks=1)
    world.answers["snapshot.find_machines"] = lambda _: snapshot.MachinesFound(machines=(before,))
    async with stage.playing(world):
        result = await stage.run_backup()
    assert [task.disk for task in result.tasks] == ["disk0", "disk1"]


async def test_a_machine_without_disks_is_protected_too(stage: Stage) -> None:
    world = World([msgspec.structs.replace(a_machine("web"), disks=())])
    async with stage.playing(world):
        result = await stage.run_backup()
    assert len(result.points) == 1


async def test_a_source_that_fails_for_good_names_the_disk(stage: Stage) -> None:
    world = World()
    error = DiskReadFailed("disk0 of web: sector 7 cannot be read")
    world.fail("transfer.copy_disk", error, where=lambda _: world.count("transfer.copy_disk") < 3)
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.SUCCESS
