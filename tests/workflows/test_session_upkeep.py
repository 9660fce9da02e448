"""The upkeep of a session: every machine with a point, a note of what went wrong, who is gone only after success."""

import asyncio
from datetime import date
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from activities.contracts import retention
from activities.contracts.snapshot import MachinesFound
from holdfast.errors import ChainBroken, SnapshotNotFound
from holdfast.model.ids import JobName, MachineId
from holdfast.model.owners import ChainOwner
from holdfast.model.retention import QuickBackup, RetentionOptions
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World, a_machine, then, until_cancelled
from workflows.backup_job import BackupJob
from workflows.messages import BackupOptions, UpkeepOptions

pytestmark = pytest.mark.temporal

WANTED = UpkeepOptions(retention=RetentionOptions(gone_after_days=14))
NIGHTLY = ChainOwner.of_job(JobName("nightly"))
SHARED = UpkeepOptions(retention=RetentionOptions(gone_after_days=14), owner=NIGHTLY)
OLD = retention.JobMachine(
    machine_id=MachineId("id-old"), machine_name="old", last_tried=date(2026, 1, 2), is_gone=True
)


def two_machines() -> World:
    world = World([a_machine("db"), a_machine("web")])
    world.answers["retention.find_machines"] = lambda _: retention.MachinesFound(machines=(OLD,))
    return world


def planned_for(world: World) -> list[tuple[str, bool]]:
    return sorted((request.machine_name, request.is_gone) for request in world.requests("retention.plan"))


async def test_a_session_without_upkeep_does_nothing_to_chains(stage: Stage) -> None:
    world = two_machines()
    async with stage.playing(world):
        await stage.run_backup()
    assert world.names("retention") == []


async def test_every_machine_with_a_point_and_those_that_are_gone_are_looked_after(stage: Stage) -> None:
    world = two_machines()
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(upkeep=WANTED))
        result = await handle.result()
        text = await details(handle)
    assert planned_for(world) == [("db", False), ("old", True), ("web", False)]
    by_name = {request.machine_name: request for request in world.requests("retention.plan")}
    assert by_name["web"].point == result.points[0].point_id
    assert by_name["web"].began == result.session.started
    assert by_name["old"].point is None
    assert "Retention: 3 kept, of 3 machines" in text
    plain = text.replace("\u00a0", " ")
    assert all(f"| {name} |   Retention |   1 kept |" in plain for name in ("db", "old", "web"))
    assert "Gone: old: not tried since 2026-01-02" in text


async def test_nobody_is_gone_when_a_machine_failed_and_a_failed_machine_keeps_its_points(stage: Stage) -> None:
    world = two_machines()
    world.fail("snapshot.create", SnapshotNotFound("gone"), where=lambda request: request.machine_id == "id-web")
    async with stage.playing(world):
        await stage.failure(BackupJob.run, stage.backup(upkeep=WANTED))
    assert planned_for(world) == [("db", False)]
    assert world.count("retention.find_machines") == 0


async def test_nobody_is_gone_when_a_machine_could_not_be_described(stage: Stage) -> None:
    world = two_machines()
    everyone = (a_machine("db"), a_machine("web"))
    world.answers["snapshot.find_machines"] = lambda _: MachinesFound(machines=everyone, problems=("old is away",))
    async with stage.playing(world):
        await stage.run_backup(upkeep=WANTED)
    assert planned_for(world) == [("db", False), ("web", False)]


async def test_nobody_is_asked_who_is_gone_without_a_rule_for_it(stage: Stage) -> None:
    world = two_machines()
    async with stage.playing(world):
        await stage.run_backup(upkeep=UpkeepOptions(retention=RetentionOptions()))
    assert world.count("retention.find_machines") == 0


async def test_retention_that_fails_is_a_warning_of_the_session(stage: Stage) -> None:
    world = two_machines()
    world.fail("retention.plan", ChainBroken("file 2 is missing"), where=lambda request: request.machine_name == "db")
    async with stage.playing(world):
        result = await stage.run_backup(upkeep=WANTED)
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("retention of db: file 2 is missing",)
    assert len(result.points) == 2


async def test_a_cancelled_session_ends_the_upkeep_and_keeps_its_points(stage: Stage) -> None:
    world = World()
    world.answers["retention.plan"] = then(until_cancelled, world.answers["retention.plan"])
    async with stage.playing(world):
        handle = await stage.start(
            BackupJob.run, stage.backup(upkeep=WANTED, options=BackupOptions(machines_at_once=1))
        )
        await world.until(lambda: world.count("retention.plan") == 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert world.sessions["s1"].outcome is Outcome.CANCELLED
    assert world.count("repository.abandon_point") == 0


async def test_a_machine_that_another_session_looks_after_is_a_note(stage: Stage) -> None:
    world = World()
    usual = world.answers["retention.plan"]
    hanging = then(until_cancelled, usual)

    def plan(request: Any) -> Any:
        return hanging(request) if world.count("retention.plan") == 1 else usual(request)

    world.answers["retention.plan"] = plan
    async with stage.playing(world):
        first = await stage.start(BackupJob.run, stage.backup(upkeep=WANTED))
        await world.until(lambda: world.count("retention.plan") == 1)
        result = await stage.run_backup(session_id="s2", upkeep=WANTED)
        await first.cancel()
        with pytest.raises(WorkflowFailureError):
            await first.result()
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes[0].startswith("upkeep of web: ")


async def test_a_chain_that_machines_share_is_looked_after_once(stage: Stage) -> None:
    world = two_machines()
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(options=BackupOptions(owner=NIGHTLY), upkeep=SHARED))
        result = await handle.result()
        assert "Chain: one for all machines of the job, which take turns" in await details(handle)
    [planned] = world.requests("retention.plan")
    assert (planned.machine_id, planned.machine_name, planned.gone) == ("job/nightly", "nightly", ("id-old",))
    assert planned.point in {point.point_id for point in result.points}
    assert planned.began == result.session.started
    assert not planned.is_gone


async def test_nobody_is_gone_from_a_shared_chain_when_a_machine_failed(stage: Stage) -> None:
    world = two_machines()
    world.fail("snapshot.create", SnapshotNotFound("gone"), where=lambda request: request.machine_id == "id-web")
    async with stage.playing(world):
        await stage.failure(BackupJob.run, stage.backup(options=BackupOptions(owner=NIGHTLY), upkeep=SHARED))
    assert [planned.gone for planned in world.requests("retention.plan")] == [()]


async def test_a_quick_backup_judges_nobody_gone_from_a_shared_chain(stage: Stage) -> None:
    world = two_machines()
    options = BackupOptions(owner=NIGHTLY, quick=QuickBackup())
    async with stage.playing(world):
        await stage.run_backup(options=options, upkeep=SHARED)
    assert [planned.gone for planned in world.requests("retention.plan")] == [()]


async def test_a_shared_chain_that_got_no_point_is_left_alone(stage: Stage) -> None:
    world = two_machines()
    world.fail("snapshot.create", SnapshotNotFound("gone"))
    async with stage.playing(world):
        await stage.failure(BackupJob.run, stage.backup(options=BackupOptions(owner=NIGHTLY), upkeep=SHARED))
    assert world.count("retention.plan") == 0


async def test_a_shared_chain_without_a_rule_for_who_is_gone_asks_nobody(stage: Stage) -> None:
    world = two_machines()
    wanted = UpkeepOptions(retention=RetentionOptions(), owner=NIGHTLY)
    async with stage.playing(world):
        await stage.run_backup(options=BackupOptions(owner=NIGHTLY), upkeep=wanted)
    assert (world.count("retention.find_machines"), world.count("retention.plan")) == (0, 1)


async def test_machines_that_share_a_chain_take_turns_and_name_its_owner(stage: Stage) -> None:
    world = World([a_machine(f"m{n}") for n in range(3)])
    running = most = 0

    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    world.answers["transfer.copy_disk"] = then(count, world.answers["transfer.copy_disk"])
    world.fail(
        "transfer.copy_disk", SnapshotNotFound("disk of m1"), where=lambda request: request.machine_id == "id-m1"
    )
    async with stage.playing(world):
        await stage.failure(BackupJob.run, stage.backup(options=BackupOptions(machines_at_once=2, owner=NIGHTLY)))
    assert most == 1
    assert {request.owner for request in world.requests("repository.begin_point")} == {NIGHTLY}
    assert [request.owner for request in world.requests("repository.abandon_point")] == [NIGHTLY]
