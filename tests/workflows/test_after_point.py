"""What follows a new point: it is read back as the job wants, and older points get what was read again."""

import msgspec
import pytest

from holdfast.errors import RepositoryUnavailable
from holdfast.model.health import RepairReport
from holdfast.model.ids import DiskKey
from holdfast.model.points import DamagedSpan, Health, PointHealth, VerifyReport
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import GIB, World, a_machine
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.messages import BackupOptions

pytestmark = pytest.mark.temporal
MARK = PointHealth(chain="c", number=1, point_id="ab" * 16, machine="web", state=Health.DAMAGED)


def beginning(world: World, **changes: object) -> None:
    usual = world.answers["repository.begin_point"]
    world.answers["repository.begin_point"] = lambda request: msgspec.structs.replace(usual(request), **changes)


@pytest.mark.parametrize("kind, reads", [("full", 0), ("increment", 1)])
async def test_increments_are_read_back_by_default(stage: Stage, kind: str, reads: int) -> None:
    world = World()
    beginning(world, kind=kind)
    async with stage.playing(world):
        await stage.run_backup(options=BackupOptions(verify_increments=True))
    requests = world.requests("repository.verify")
    assert len(requests) == reads
    assert all(request.is_new_only and request.numbers == (1,) for request in requests)


async def test_what_follows_a_point_waits_behind_no_other_reading(stage: Stage) -> None:
    world = World()
    beginning(world, kind="increment", damaged=(DamagedSpan(disk=DiskKey("disk0"), start=0, length=65536),))
    async with stage.playing(world):
        await stage.run_backup(options=BackupOptions(verify_increments=True))
    used = {name: queue for name, queue in world.queues if name in {"repository.verify", "health.repair"}}
    assert used == dict.fromkeys(("repository.verify", "health.repair"), queues.fresh_queue(stage.repository))


async def test_a_job_may_want_everything_a_point_needs_read_back(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        await stage.run_backup(options=BackupOptions(verify=True))
    (request,) = world.requests("repository.verify")
    assert not request.is_new_only


async def test_the_session_says_how_many_new_points_were_read_back(stage: Stage) -> None:
    world = World([a_machine("db"), a_machine("web")])
    world.answers["repository.verify"] = lambda _: VerifyReport(points=1, stored_bytes=GIB)
    beginning(world, kind="increment")
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup(options=BackupOptions(verify=True)))
        await handle.result()
        text = await details(handle)
    assert "Verified: 2 of 2 new points, 2 GiB read back, nothing is damaged" in text


async def test_a_session_that_verifies_nothing_says_nothing_of_it(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        await handle.result()
        assert "Verified" not in await details(handle)


async def test_a_point_that_does_not_read_back_is_marked(stage: Stage) -> None:
    world = World()
    beginning(world, kind="increment")
    world.answers["repository.verify"] = lambda _: VerifyReport(unnamed_damages=1, health=(MARK,))
    async with stage.playing(world):
        await stage.failure(BackupJob.run, stage.backup(options=BackupOptions(verify_increments=True)))
    (request,) = world.requests("catalog.record_health")
    assert request.points == (MARK,)


async def test_what_was_read_again_repairs_the_older_points(stage: Stage) -> None:
    world = World()
    beginning(world, damaged=(DamagedSpan(disk=DiskKey("disk0"), start=0, length=65536),))
    world.answers["health.repair"] = lambda _: RepairReport(chains=1, repaired_pieces=1, from_chain=1, points=(MARK,))
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.SUCCESS
    (request,) = world.requests("health.repair")
    assert request.chain == "machines/web/000001-00000000"
    assert world.count("catalog.record_health") == 1


async def test_a_repair_that_fails_or_leaves_something_is_a_note(stage: Stage) -> None:
    world = World()
    beginning(world, damaged=(DamagedSpan(disk=DiskKey("disk0"), start=0, length=65536),))
    world.answers["health.repair"] = lambda _: RepairReport(chains=1, unnamed_damages=3)
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.WARNING
    assert "3 places of older points stay damaged" in result.session.notes[0]


async def test_a_sound_chain_is_not_repaired(stage: Stage) -> None:
    world = World()
    world.fail("health.repair", RepositoryUnavailable("not asked for"))
    async with stage.playing(world):
        await stage.run_backup()
    assert world.count("health.repair") == 0
