"""A chain that cannot be continued: the job fails, begins anew, or asks before anything is frozen."""

from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from activities.boundary import error_from_failure
from activities.contracts import repository
from holdfast.errors import ChainBroken
from holdfast.model.health import BrokenChain
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World
from workflows.backup_job import BackupJob
from workflows.broken_chain import DECIDE
from workflows.messages import BackupOptions, SessionResult

pytestmark = pytest.mark.temporal
PROBLEM = "point 3 of chain c1 is damaged"


def asking(**changes: Any) -> BackupOptions:
    return BackupOptions(on_broken_chain=BrokenChain.ASK, **changes)


def a_broken_world() -> World:
    world = World()
    world.answers["repository.look_at_chain"] = lambda _: repository.ChainSeen(problem=PROBLEM)
    return world


@pytest.mark.parametrize("policy, is_full", [(None, False), (BrokenChain.FAIL, False), (BrokenChain.FULL, True)])
async def test_whoever_begins_the_point_is_told_what_the_job_wants(
    stage: Stage, policy: BrokenChain | None, *, is_full: bool
) -> None:
    world = World()
    async with stage.playing(world):
        await stage.run_backup(options=BackupOptions(on_broken_chain=policy))
    (request,) = world.requests("repository.begin_point")
    assert request.is_full_when_broken is is_full
    assert world.count("repository.look_at_chain") == 0


async def test_a_sound_chain_is_no_question(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        result = await stage.run_backup(options=asking())
    assert result.session.outcome is Outcome.SUCCESS
    assert world.names("repository", "snapshot")[:3] == [
        "snapshot.find_machines",
        "repository.look_at_chain",
        "snapshot.create",
    ]


async def test_a_full_that_was_asked_for_is_no_question(stage: Stage) -> None:
    world = a_broken_world()
    async with stage.playing(world):
        await stage.run_backup(options=asking(full=True))
    assert world.count("repository.look_at_chain") == 0


async def decide(stage: Stage, world: World, *decisions: BrokenChain) -> Any:
    handle = await stage.start(BackupJob.run, stage.backup(options=asking()))
    await world.until(lambda: world.count("repository.look_at_chain") == 1)
    (child,) = (await handle.query(BackupJob.progress)).children
    for decision in decisions:
        await stage.client.get_workflow_handle(child).signal(DECIDE, decision)
    return handle


async def test_somebody_decides_for_a_new_chain(stage: Stage) -> None:
    world = a_broken_world()
    async with stage.playing(world):
        handle = await decide(stage, world, BrokenChain.ASK, BrokenChain.FULL, BrokenChain.FAIL)
        result: SessionResult = await handle.result()
    assert result.session.outcome is Outcome.WARNING
    assert f"a new chain is begun, as was decided: {PROBLEM}" in result.session.notes[0]
    (request,) = world.requests("repository.begin_point")
    assert request.is_full_when_broken


async def test_somebody_decides_against_it_and_nothing_is_frozen(stage: Stage) -> None:
    world = a_broken_world()
    async with stage.playing(world):
        handle = await decide(stage, world, BrokenChain.FAIL)
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(error_from_failure(caught.value), ChainBroken)
    assert world.count("snapshot.create") == 0


async def test_when_nobody_answers_the_machine_fails(stage: Stage) -> None:
    world = a_broken_world()
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup(options=asking()))
    assert isinstance(error_from_failure(failure), ChainBroken)
    assert world.count("snapshot.create") == 0
