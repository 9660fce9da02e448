"""A machine that is held has no session, until it is let go."""

import pytest

from holdfast.model.ids import MachineId
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World
from workflows.chain_messages import HoldRequest
from workflows.holding import HoldMachine

pytestmark = pytest.mark.temporal


async def test_a_hold_lasts_until_it_is_released(stage: Stage) -> None:
    request = HoldRequest(repository=stage.repository, machine_id=MachineId("id-web"), machine_name="web")
    async with stage.playing(World()):
        handle = await stage.start(HoldMachine.run, request)
        await handle.signal(HoldMachine.release)
        assert await handle.result() is None
