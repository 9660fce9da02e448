"""Steps of the upkeep that a job's method asks for: only when it does, in order, and told to the catalog."""

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import CancelledError

from activities.contracts import chains, retention
from holdfast.errors import RepositoryFull
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.ids import ChainId, FileId, MachineId, PointId
from holdfast.model.points import PointSummary
from holdfast.model.retention import Method, RetentionOptions
from holdfast.model.session import Problem
from tests.workflows.conftest import Stage
from tests.workflows.stubs import GIB, NOON, World, too_late
from tests.workflows.test_machine_upkeep import request_for, run
from workflows import queues
from workflows.machine_upkeep import MachineUpkeep
from workflows.messages import ByHand, MachineUpkeepResult, UpkeepOptions
from workflows.method_steps import changed_words

SATURDAY = FullDays(weekdays=(5,))
SYNTHETIC = MethodOptions(method=Method.FORWARD, fulls=FullPolicy(synthetic=SATURDAY), compact=SATURDAY)
MOVED = retention.PointMoved(point_id=PointId("p4"), file="f3", file_id=FileId("id3"), generation=9, kind="rollback")


def summary() -> PointSummary:
    return PointSummary(
        chain="machines/web/2",
        chain_id=ChainId("c"),
        file="00000004-full.hfc",
        file_id=FileId("f"),
        number=4,
        point_id=PointId("p4"),
        kind="full",
        machine_id=MachineId("id-web"),
        machine_name="web",
        created=NOON,
        root="00",
        size_bytes=GIB,
        file_bytes=GIB,
        generation=3,
    )


async def look_after(stage: Stage, world: World, wanted: UpkeepOptions) -> MachineUpkeepResult:
    return await run(stage, world, upkeep=wanted, point=summary(), began=NOON)


def asked(world: World, *families: str) -> list[str]:
    return [name for name, _ in world.asked if name.startswith(families)]


@pytest.mark.temporal
async def test_the_method_comes_before_retention_and_compaction_behind(stage: Stage) -> None:
    world = World()
    result = await look_after(stage, world, UpkeepOptions(method=SYNTHETIC, retention=RetentionOptions()))
    assert [name for name, _ in result.lines] == ["Method", "Retention", "Compaction"]
    assert asked(world, "chains.", "retention.plan") == ["chains.apply_method", "retention.plan", "chains.compact"]
    assert {queue for name, queue in world.queues if name.startswith("chains.")} == {
        queues.chain_queue(stage.repository)
    }
    assert [request.options for request in world.requests("chains.apply_method")] == [SYNTHETIC]


@pytest.mark.parametrize("method", [None, MethodOptions(), MethodOptions(fulls=FullPolicy(active=SATURDAY))])
@pytest.mark.temporal
async def test_a_method_that_wants_nothing_asks_for_nothing(stage: Stage, method: MethodOptions | None) -> None:
    world = World()
    await look_after(stage, world, UpkeepOptions(method=method, retention=RetentionOptions()))
    assert asked(world, "chains.") == []


@pytest.mark.temporal
async def test_points_that_are_elsewhere_now_are_told_to_the_catalog(stage: Stage) -> None:
    world = World()
    world.answers["chains.apply_method"] = lambda _: chains.ChainChanged(
        reason="due", is_done=True, what="synthetic full", moved_bytes=GIB, point=summary(), moved=(MOVED,)
    )
    result = await look_after(stage, world, UpkeepOptions(method=MethodOptions(method=Method.REVERSE)))
    assert [request.moved for request in world.requests("retention.settle")] == [MOVED]
    assert [request.point for request in world.requests("catalog.record_point")] == [summary()]
    assert result.lines == (("Method", "synthetic full, 1 GiB moved copied; due"),)


@pytest.mark.temporal
async def test_a_change_that_was_made_before_a_cancellation_is_told_to_the_catalog(stage: Stage) -> None:
    world = World()
    world.answers["chains.apply_method"] = too_late(
        lambda _: chains.ChainChanged(
            reason="due", is_done=True, what="synthetic full", point=summary(), moved=(MOVED,)
        )
    )
    wanted = UpkeepOptions(method=MethodOptions(method=Method.REVERSE), retention=RetentionOptions())
    async with stage.playing(world):
        request = request_for(stage, upkeep=wanted, point=summary(), began=NOON)
        handle = await stage.start(MachineUpkeep.run, request)
        await world.until(lambda: world.count("chains.apply_method") == 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert [request.point for request in world.requests("catalog.record_point")] == [summary()]
    assert [request.moved for request in world.requests("retention.settle")] == [MOVED]
    assert asked(world, "retention.plan") == []


@pytest.mark.temporal
async def test_a_step_that_fails_is_a_note_and_keeps_nothing_else_back(stage: Stage) -> None:
    world = World()
    world.fail("chains.apply_method", RepositoryFull("no space left"))
    result = await look_after(stage, world, UpkeepOptions(method=SYNTHETIC, retention=RetentionOptions()))
    assert result.notes == ("method of web: no space left",)
    assert result.problem is None  # nobody asked for it by hand
    assert [name for name, _ in result.lines] == ["Retention", "Compaction"]


@pytest.mark.temporal
@pytest.mark.parametrize(
    "by_hand, name",
    [(ByHand.SYNTHETIC_FULL, "chains.apply_method"), (ByHand.COMPACTION, "chains.compact")],
)
async def test_what_is_asked_for_by_hand_is_done_alone(stage: Stage, by_hand: ByHand, name: str) -> None:
    world = World()
    await run(stage, world, upkeep=UpkeepOptions(method=MethodOptions()), by_hand=by_hand)
    assert asked(world, "chains.", "retention.") == [name]
    assert [request.is_asked_for for request in world.requests(name)] == [True]


@pytest.mark.temporal
async def test_why_a_change_asked_for_by_hand_failed_is_in_the_result(stage: Stage) -> None:
    world = World()
    world.fail("chains.compact", RepositoryFull("no space left", hint="Free some."))
    result = await run(stage, world, upkeep=UpkeepOptions(method=MethodOptions()), by_hand=ByHand.COMPACTION)
    assert result.problem == Problem(code="repository-full", message="no space left", hint="Free some.")
    assert (result.lines, result.notes) == ((), ("compaction of web: no space left",))


def test_what_was_done_is_told_in_words() -> None:
    assert changed_words(chains.ChainChanged(reason="no full is due")) == "nothing to do: no full is due"
    changed = chains.ChainChanged(
        reason="why", is_done=True, what="what", moved_bytes=GIB, shared_bytes=GIB, displaced_bytes=GIB, freed_bytes=GIB
    )
    assert changed_words(changed) == "what, 1 GiB moved as shared blocks, 1 GiB displaced, 1 GiB freed; why"
