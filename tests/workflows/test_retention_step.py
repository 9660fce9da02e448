"""Retention of a machine: the plan as it was made, step by step, and the catalog told after each."""

import asyncio
from datetime import date
from typing import Any

import msgspec
import pytest
from temporalio.client import WorkflowFailureError

from activities.contracts import retention
from holdfast.errors import CatalogUnavailable, RepositoryFull, SyncFailed
from holdfast.model.ids import FileId, PointId
from holdfast.model.retention import KeepUnit, MonthlyRule, RetentionPolicy, WeeklyRule, YearlyRule
from holdfast.planning.retention import PointVerdict, Verdict
from holdfast.planning.retention_steps import RetentionStep
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import GIB, World
from tests.workflows.test_machine_upkeep import request_for, run
from workflows import queues
from workflows.machine_upkeep import MachineUpkeep
from workflows.messages import Retained
from workflows.retention_step import retained_words, rules_words

pytestmark = pytest.mark.temporal

REMOVAL = RetentionStep(chain="c1", files=("f2", "f1"), points=(PointId("p1"), PointId("p2")), size_bytes=3 * GIB)
MERGE = RetentionStep(chain="c2", files=("f4",), into="f3", points=(PointId("p3"),), size_bytes=GIB)
MOVED = retention.PointMoved(point_id=PointId("p4"), file="f3", file_id=FileId("id3"), generation=9, kind="full")


def planned(*steps: RetentionStep, **changes: Any) -> Any:
    return lambda _: retention.RetentionPlanned(digest="d1", steps=steps, kept=5, **changes)


async def test_the_steps_of_the_plan_are_carried_out_in_order_and_the_catalog_is_told(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = planned(REMOVAL, MERGE)
    world.answers["retention.carry_out"] = lambda request: retention.CarriedOut(
        moved_bytes=GIB if request.step.into else 0, moved=MOVED if request.step.into else None
    )
    result = await run(stage, world)
    assert world.names("retention") == [
        "retention.plan",
        "retention.purge",
        "retention.carry_out",
        "retention.settle",
        "retention.carry_out",
        "retention.settle",
    ]
    assert [request.step for request in world.requests("retention.carry_out")] == [REMOVAL, MERGE]
    promised = {request.grace_days for request in world.requests("retention.carry_out")}
    assert promised == {request.grace_days for request in world.requests("retention.purge")}
    assert [(one.gone, one.moved) for one in world.requests("retention.settle")] == [
        (REMOVAL.points, None),
        (MERGE.points, MOVED),
    ]
    assert result.retained == Retained(kept=5, merged=1, deleted=2, moved_bytes=GIB, freed_bytes=3 * GIB)
    assert result.lines == (("Retention", "5 kept, 1 merged (1 GiB moved), 2 deleted (3 GiB)"),)


async def test_the_details_say_what_becomes_of_each_point_and_what_was_done_with_how_many_bytes(stage: Stage) -> None:
    world = World()
    goes = PointVerdict(
        chain="machines/web/c2",
        number=3,
        point_id=PointId("p3"),
        day=date(2026, 11, 1),
        verdict=Verdict.MERGED,
        reason="outdated",
    )
    stays = msgspec.structs.replace(goes, number=4, verdict=Verdict.KEPT, reason="one of the newest 1")
    world.answers["retention.plan"] = planned(REMOVAL, MERGE, points=(goes, stays))
    world.answers["retention.carry_out"] = lambda request: retention.CarriedOut(
        moved_bytes=GIB if request.step.into else 0
    )
    async with stage.playing(world):
        handle = await stage.start(MachineUpkeep.run, request_for(stage))
        await handle.result()
        text = (await details(handle)).replace("\u00a0", " ").replace("\u2011", "-")
    days = request_for(stage).upkeep.retention
    assert days is not None
    assert "| 3 of c2 |   2026-11-01 |   merged |   outdated |" in text
    assert "| 4 of c2 |   2026-11-01 |   kept |   one of the newest 1 |" in text
    assert text.index("### Steps") < text.index("### Points")
    assert f"| removing 2 files, of c1 |   3 GiB |   done, 3 GiB free in {days.grace_days} days |" in text
    assert "| merging 1 file into f3, of c2 |   1 GiB |   done, 1 GiB moved |" in text


async def test_a_step_that_fails_stands_as_it_was_and_what_is_behind_it_waits(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = planned(REMOVAL, MERGE)
    world.fail("retention.carry_out", SyncFailed("the disk is broken"))
    async with stage.playing(world):
        handle = await stage.start(MachineUpkeep.run, request_for(stage))
        await handle.result()
        text = (await details(handle)).replace("\u00a0", " ")
    assert "| removing 2 files, of c1 |   3 GiB |   failed |" in text
    assert "| merging 1 file into f3, of c2 |   1 GiB |   waiting |" in text


async def test_work_on_chains_is_not_queued_behind_verifications(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = planned(MERGE)
    await run(stage, world)
    used = {queue for name, queue in world.queues if name.startswith("retention.")}
    assert used == {queues.chain_queue(stage.repository), queues.CONTROL}


async def test_points_that_wait_for_consent_are_a_note_that_says_how_to_give_it(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = planned(held=7)
    result = await run(stage, world)
    [note] = result.notes
    assert "7 points of web" in note
    assert "`holdfast retention run nightly`" in note


async def test_a_step_that_fails_ends_retention_and_not_what_was_done(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = planned(REMOVAL, MERGE)
    world.fail("retention.carry_out", SyncFailed("the disk is broken"), where=lambda request: bool(request.step.into))
    result = await run(stage, world)
    assert world.count("retention.settle") == 1
    assert result.notes == ("retention of web: the disk is broken",)


async def test_a_full_repository_is_tried_for_a_while(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = planned(MERGE)
    usual = world.answers["retention.carry_out"]

    def carried(request: Any) -> Any:
        if world.count("retention.carry_out") < 3:
            raise RepositoryFull("no room")
        return usual(request)

    world.answers["retention.carry_out"] = carried
    result = await run(stage, world)
    assert result.retained.merged == 1


async def test_what_was_purged_is_shown(stage: Stage) -> None:
    world = World()
    world.answers["retention.purge"] = lambda _: retention.RemovedPurged(files=2, freed_bytes=GIB)
    result = await run(stage, world)
    assert result.retained == Retained(kept=1)


def test_rules_are_told_in_words() -> None:
    assert rules_words(RetentionPolicy()) == "7 days, at least 3 points"
    policy = RetentionPolicy(
        keep=1,
        unit=KeepUnit.POINTS,
        weekly=WeeklyRule(weeks=4),
        monthly=MonthlyRule(months=1),
        yearly=YearlyRule(years=7),
    )
    fulls = "a full of each week for 4 weeks, a full of each month for 1 month, a full of each year for 7 years"
    assert rules_words(policy) == f"1 point, {fulls}"


def test_words_leave_out_what_did_not_happen() -> None:
    assert retained_words(Retained(kept=3)) == "3 kept"
    assert retained_words(Retained(kept=3, held=2)) == "3 kept, 2 wait for consent"
    assert retained_words(Retained(kept=3, held=1)) == "3 kept, 1 waits for consent"


async def test_points_that_went_before_a_cancellation_are_told_to_the_catalog_however_long_it_is_away(
    stage: Stage,
) -> None:
    world = World()
    world.answers["retention.plan"] = planned(REMOVAL, MERGE)
    answered: list[tuple[PointId, ...]] = []
    usual, asked_to_stop = world.answers["retention.settle"], asyncio.Event()

    def settled(request: Any) -> Any:
        if not asked_to_stop.is_set():
            raise CatalogUnavailable("the catalog is locked")
        answered.append(request.gone)
        return usual(request)

    world.answers["retention.settle"] = settled
    async with stage.playing(world):
        handle = await stage.start(MachineUpkeep.run, request_for(stage))
        await world.until(lambda: world.count("retention.settle") == 1)
        await handle.cancel()
        asked_to_stop.set()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert answered == [REMOVAL.points]
    assert world.count("retention.carry_out") == 1
