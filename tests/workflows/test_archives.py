"""Sessions that make archives, and those that remove them."""

from datetime import UTC, date, datetime

import pytest

from activities.contracts import retention as contract
from holdfast.model.archives import Archive
from holdfast.model.ids import JobName, MachineId, SessionId
from holdfast.model.retention import RetentionOptions
from holdfast.model.session import SessionKind
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World, a_machine
from workflows.backup_job import BackupJob
from workflows.messages import BackupOptions, RetentionRequest, UpkeepOptions
from workflows.retention import RetainPoints

pytestmark = pytest.mark.temporal


async def test_a_session_of_archives_says_so_and_until_when_they_are_kept(stage: Stage) -> None:
    world = World([a_machine("web")])
    wish = Archive(expires=datetime(2027, 7, 1, tzinfo=UTC))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(options=BackupOptions(full=True, archive=wish)))
        result = await handle.result()
        text = await details(handle)
    assert result.session.kind is SessionKind.ARCHIVE
    assert "kept until 2027-07-01T00:00+00:00" in text
    [begun] = world.requests("repository.begin_point")
    assert begun.archive == wish


async def test_archives_are_planned_by_themselves_and_purged_together(stage: Stage) -> None:
    world = World()
    machine = contract.JobMachine(
        machine_id=MachineId("id-web"), machine_name="web", last_tried=date(2026, 1, 2), is_gone=False
    )
    world.answers["retention.find_machines"] = lambda _: contract.MachinesFound(machines=(machine,))
    world.answers["retention.plan"] = lambda _: contract.RetentionPlanned(digest="d", kept=1, left_out=("archive x",))
    request = RetentionRequest(
        job=JobName("archives"),
        repository=stage.repository,
        upkeep=UpkeepOptions(retention=RetentionOptions(only_archives=True)),
        session_id=SessionId("s1"),
    )
    async with stage.playing(world):
        result = await stage.run(RetainPoints.run, request)
    assert result.session.notes == ("archive x",)
    assert [find.only_archives for find in world.requests("retention.find_machines")] == [True]
    [purge] = world.requests("retention.purge")
    assert (purge.only_archives, purge.machine_id) == (True, "")


async def test_with_nothing_shown_nothing_is_looked_for_and_only_the_removed_is_purged(stage: Stage) -> None:
    world = World()
    request = RetentionRequest(
        job=JobName("archives"),
        repository=stage.repository,
        upkeep=UpkeepOptions(retention=RetentionOptions(only_archives=True)),
        session_id=SessionId("s1"),
        only_shown=True,
    )
    async with stage.playing(world):
        await stage.run(RetainPoints.run, request)
    assert (world.count("retention.find_machines"), world.count("retention.plan")) == (0, 0)
    assert world.count("retention.purge") == 1
