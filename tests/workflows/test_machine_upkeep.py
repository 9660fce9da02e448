"""The upkeep of a machine: its steps in order, a failed one is a note, a cancelled one ends it."""

from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from holdfast.errors import ChainBroken
from holdfast.model.ids import JobName, MachineId, SessionId
from holdfast.model.retention import RetentionOptions
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World, then, until_cancelled
from workflows import search_attributes
from workflows.machine_upkeep import MachineUpkeep
from workflows.messages import MachineUpkeepRequest, MachineUpkeepResult, SessionProgress, UpkeepOptions

pytestmark = pytest.mark.temporal

WANTED = UpkeepOptions(retention=RetentionOptions())


def request_for(stage: Stage, **changes: Any) -> MachineUpkeepRequest:
    given: dict[str, Any] = {"upkeep": WANTED} | changes
    return MachineUpkeepRequest(
        session_id=SessionId("s1"),
        job=JobName("nightly"),
        repository=stage.repository,
        machine_id=MachineId("id-web"),
        machine_name="web",
        **given,
    )


async def run(stage: Stage, world: World, **changes: Any) -> MachineUpkeepResult:
    async with stage.playing(world):
        result = await (await stage.start(MachineUpkeep.run, request_for(stage, **changes))).result()
    assert isinstance(result, MachineUpkeepResult)
    return result


async def test_a_step_that_is_not_wanted_is_not_carried_out(stage: Stage) -> None:
    world = World()
    result = await run(stage, world, upkeep=UpkeepOptions())
    assert (result.lines, result.notes, world.names("retention")) == ((), (), [])


async def test_a_wanted_step_says_what_it_did(stage: Stage) -> None:
    result = await run(stage, World())
    assert result.lines == (("Retention", "1 kept"),)
    assert result.notes == ()


async def test_a_step_that_fails_is_a_note(stage: Stage) -> None:
    world = World()
    world.fail("retention.plan", ChainBroken("file 2 is missing"))
    async with stage.playing(world):
        handle = await stage.start(MachineUpkeep.run, request_for(stage))
        result = await handle.result()
        text = await details(handle)
        found = (await handle.describe()).typed_search_attributes
    assert result.notes == ("retention of web: file 2 is missing",)
    assert "retention of web: file 2 is missing" in text
    assert found[search_attributes.RESULT] == "warning"


async def test_a_cancelled_upkeep_waits_for_its_step_and_ends_cancelled(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = then(until_cancelled, world.answers["retention.plan"])
    async with stage.playing(world):
        handle = await stage.start(MachineUpkeep.run, request_for(stage))
        await world.until(lambda: world.count("retention.plan") == 1)
        progress: SessionProgress = await handle.query(MachineUpkeep.progress)
        assert progress.phase == "planning retention"
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert (await handle.describe()).status is WorkflowExecutionStatus.CANCELED
    assert world.names("retention") == ["retention.plan"]
