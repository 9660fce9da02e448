"""The frame of a session: begun before, undone and written down after, whatever happens between."""

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from holdfast.errors import RequestInvalid
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine
from workflows.backup_job import BackupJob
from workflows.failures import result_in
from workflows.messages import SessionResult
from workflows.session import LISTED_MAX
from workflows.verify import VerifyRepository

pytestmark = pytest.mark.temporal


async def test_the_catalog_hears_first_and_last(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        handle = await stage.start(VerifyRepository.run, stage.verify())
        await handle.result()
    assert [name for name, _ in world.asked] == [
        "catalog.begin_session",
        "repository.verify",
        "catalog.finish_session",
    ]
    begun, ended = world.requests("catalog.begin_session")[0], world.requests("catalog.finish_session")[0]
    assert (begun.outcome, begun.workflow_id, begun.ended) == (Outcome.RUNNING, handle.id, None)
    assert (ended.outcome, ended.started) == (Outcome.SUCCESS, begun.started)


async def test_a_session_cancelled_before_its_first_step_does_nothing_and_is_written_down(stage: Stage) -> None:
    world = World()
    handle = await stage.start(VerifyRepository.run, stage.verify())
    await handle.cancel()
    async with stage.playing(world):
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert world.count("repository.verify") == 0
    assert world.requests("catalog.finish_session")[0].outcome is Outcome.CANCELLED


async def test_a_result_lists_a_bounded_number_of_tasks(stage: Stage) -> None:
    world = World([a_machine("web", disks=LISTED_MAX + 5)])
    world.fail("extents.gather_facts", RequestInvalid("no such repository"))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup())
    result = result_in(failure, SessionResult)
    assert result is not None
    assert len(result.tasks) == LISTED_MAX
    assert result.session.figures.size_bytes == (LISTED_MAX + 5) << 30
