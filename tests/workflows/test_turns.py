"""Sessions of a job and quick backups into it take turns: who began earlier goes on."""

from datetime import timedelta

import msgspec
import pytest
from temporalio.testing import ActivityEnvironment

from activities.contracts import sessions
from activities.sessions import SessionActivities
from holdfast.model.retention import QuickBackup, RetentionOptions
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import NOON, World, a_machine
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.messages import BackupOptions, UpkeepOptions

pytestmark = pytest.mark.temporal


async def test_a_session_waits_for_one_that_began_earlier(stage: Stage) -> None:
    world = World([a_machine("web")])
    busy = sessions.RunningSessions(workflow_ids=("quick/nightly",))
    looks = iter([busy] * 9)
    world.answers["sessions.find_earlier"] = lambda _: next(looks, sessions.RunningSessions())
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(after=("quick/nightly",)))
        result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    asked = world.requests("sessions.find_earlier")
    assert len(asked) == 10
    assert {(one.workflow_ids, one.workflow_id) for one in asked} == {(("quick/nightly",), handle.id)}
    assert result.session.ended - result.session.started >= timedelta(minutes=5)


async def test_a_session_that_is_cancelled_while_it_waits_ends_at_once(stage: Stage) -> None:
    world = World([a_machine("web")])
    busy = sessions.RunningSessions(workflow_ids=("backup/nightly",))
    world.answers["sessions.find_earlier"] = lambda _: busy
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(after=("backup/nightly",)))
        await world.until(lambda: world.count("sessions.find_earlier") > 1)
        assert "waiting for another session of the job: backup/nightly" in await details(handle)
        await handle.cancel()
        await world.until(lambda: any(one.outcome is Outcome.CANCELLED for one in world.sessions.values()))
    assert world.names() == []


async def test_a_session_that_waits_for_nobody_does_not_ask(stage: Stage) -> None:
    world = World([a_machine("web")])
    async with stage.playing(world):
        await stage.run_backup()
    assert world.count("sessions.find_earlier") == 0


async def test_a_quick_backup_begins_no_full_and_judges_nobody_gone(stage: Stage) -> None:
    world = World([a_machine("web")])
    quick = QuickBackup(timezone="Europe/Zurich", lock_days=3)
    upkeep = UpkeepOptions(retention=RetentionOptions(gone_after_days=7))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(options=BackupOptions(quick=quick), upkeep=upkeep))
        await handle.result()
        assert "Quick backup" in await details(handle)
    [begun] = world.requests("repository.begin_point")
    # Locks count from the session's start, so it travels with what the quick backup wishes.
    assert begun.quick.began is not None
    assert (msgspec.structs.replace(begun.quick, began=None), begun.full) == (quick, False)
    assert world.count("retention.plan") == 1
    assert world.count("retention.find_machines") == 0


async def test_who_began_earlier_is_asked_of_temporal(dev_stage: Stage) -> None:
    name = f"earlier-{dev_stage.proxy}"
    running = await dev_stage.client.start_workflow("Other", id=name, task_queue=f"nobody-{dev_stage.proxy}")
    began = (await running.describe()).start_time
    find = SessionActivities().find_earlier

    async def found(**changes: object) -> tuple[str, ...]:
        given = {"workflow_ids": (name, f"never-{name}"), "started": began, "workflow_id": f"zz-{name}"} | changes
        ask = sessions.EarlierSessions(**given)  # type: ignore[arg-type]
        return (await ActivityEnvironment(client=dev_stage.client).run(find, ask)).workflow_ids

    assert await found(started=began + timedelta(seconds=1)) == (name,)
    assert await found(started=NOON.replace(year=2020)) == ()
    assert await found() == (name,)  # at the same moment the lesser id goes first
    assert await found(workflow_id=f"aa-{name}") == ()
    await running.terminate()
    assert await found(started=began + timedelta(seconds=1)) == ()


async def test_two_sessions_that_waited_for_a_worker_do_not_wait_for_each_other(dev_stage: Stage) -> None:
    first, second = f"a-{dev_stage.proxy}", f"b-{dev_stage.proxy}"
    asked: dict[str, sessions.EarlierSessions] = {}

    def noted(ask: sessions.EarlierSessions) -> sessions.RunningSessions:
        asked[ask.workflow_id] = ask
        return sessions.RunningSessions()

    world = World([a_machine("web")])
    world.answers["sessions.find_earlier"] = noted
    handles = []
    for name, other in ((first, second), (second, first)):
        request = dev_stage.backup(after=(other,))
        handles.append(
            await dev_stage.client.start_workflow(BackupJob.run, request, id=name, task_queue=queues.CONTROL)
        )
    async with dev_stage.playing(world):
        await world.until(lambda: len(asked) == len(handles))
    for handle in handles:
        await handle.terminate()
    began = {handle.id: (await handle.describe()).start_time for handle in handles}
    assert {name: ask.started for name, ask in asked.items()} == began
