"""Removed files, taken back or deleted by hand: one activity, told in words, and an error that is passed on."""

from datetime import timedelta

import pytest

from activities.contracts import retention
from holdfast.errors import ChainBroken
from holdfast.model.ids import CredentialName
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import GIB, World
from tests.workflows.test_machine_upkeep import request_for, run
from workflows import queues
from workflows.machine_upkeep import MachineUpkeep
from workflows.messages import ByHand, UpkeepOptions

pytestmark = pytest.mark.temporal

CHAIN = "machines/web/000001"


async def test_what_is_taken_back_is_locked_for_the_days_that_were_asked_for(stage: Stage) -> None:
    world = World()
    world.answers["retention.take_back"] = lambda _: retention.TakenBack(files=("f1", "f2"))
    request = request_for(
        stage,
        by_hand=ByHand.TAKING_BACK,
        upkeep=UpkeepOptions(),
        chain=CHAIN,
        lock_days=2,
        credentials=(CredentialName("night"),),
    )
    async with stage.playing(world):
        handle = await stage.start(MachineUpkeep.run, request)
        result = await handle.result()
        text = (await details(handle)).replace("\u00a0", " ")
        began = (await handle.describe()).start_time
    assert world.names("retention") == ["retention.take_back"]
    (asked,) = world.requests("retention.take_back")
    assert (asked.chain, asked.credentials) == (CHAIN, ("night",))
    assert timedelta(days=2) <= asked.until - began < timedelta(days=2, minutes=1)
    [(name, words)] = result.lines
    assert name == "Taken back"
    assert words.startswith(f"2 files of {CHAIN} back, locked until {asked.until.date()}")
    assert "| f1 |   back |" in text
    assert [queue for name, queue in world.queues if name == "retention.take_back"] == [
        queues.chain_queue(stage.repository)
    ]


async def test_a_purge_by_hand_is_of_the_one_chain(stage: Stage) -> None:
    world = World()
    world.answers["retention.purge"] = lambda _: retention.RemovedPurged(files=1, freed_bytes=GIB)
    result = await run(stage, world, by_hand=ByHand.PURGE, upkeep=UpkeepOptions(), chain=CHAIN)
    assert world.names("retention") == ["retention.purge"]
    (asked,) = world.requests("retention.purge")
    assert (asked.chain, asked.grace_days) == (CHAIN, 0)
    assert result.lines == (("Purged", f"1 file of {CHAIN} deleted, 1 GiB freed"),)


async def test_what_cannot_be_taken_back_is_a_problem_of_the_result(stage: Stage) -> None:
    world = World()
    world.fail("retention.take_back", ChainBroken("it fits no more"))
    result = await run(stage, world, by_hand=ByHand.TAKING_BACK, upkeep=UpkeepOptions(), chain=CHAIN)
    assert result.problem is not None
    assert (result.problem.code, result.lines) == (ChainBroken.code, ())
