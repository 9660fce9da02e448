"""The disks of one machine are copied at once, as far as the repository's worker knows how."""

import asyncio
from typing import Any

import msgspec
import pytest

from activities.contracts import repository
from holdfast.errors import SnapshotNotFound
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine, then, until_cancelled
from tests.workflows.test_machine_backup import fail, succeed

pytestmark = pytest.mark.temporal


def take_disks_at_once(world: World) -> None:
    """Answer as a worker of this version does."""
    begin = world.answers["repository.begin_point"]
    world.answers["repository.begin_point"] = lambda r: msgspec.structs.replace(begin(r), takes_disks_at_once=True)


async def test_all_disks_are_copied_at_once(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    take_disks_at_once(world)
    copy = world.answers["transfer.copy_disk"]

    async def all_asked() -> None:
        await world.until(lambda: world.count("transfer.copy_disk") == 3)

    world.answers["transfer.copy_disk"] = then(all_asked, copy)
    result = await succeed(stage, world)
    assert [task.outcome for task in result.tasks] == [Outcome.SUCCESS] * 3


async def test_a_disk_that_fails_stops_the_others_before_anything_is_taken_back(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    take_disks_at_once(world)
    ended: list[str] = []

    async def copy(request: Any) -> Any:
        if request.disk == "disk1":
            await world.until(lambda: world.count("transfer.copy_disk") == 3)
            raise SnapshotNotFound("snapshot of web is gone")
        try:
            await until_cancelled()
        finally:
            ended.append(request.disk)

    def note(request: Any) -> Any:
        ended.append("point")
        return repository.PointAbandoned()

    world.answers["transfer.copy_disk"] = copy
    world.answers["repository.abandon_point"] = note
    await fail(stage, world)
    assert (sorted(ended[:-1]), ended[-1]) == (["disk0", "disk2"], "point")
    assert {task.outcome for task in world.tasks.values()} == {Outcome.FAILED}


async def test_a_disk_that_is_only_written_down_when_another_fails_is_not_copied(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    take_disks_at_once(world)
    record = world.answers["catalog.record_task"]
    world.fail("transfer.copy_disk", SnapshotNotFound("snapshot of web is gone"), where=lambda one: one.disk == "disk0")

    async def recorded(task: Any) -> Any:
        if task.disk == "disk1" and task.outcome is Outcome.RUNNING:
            await world.until(lambda: world.count("transfer.copy_disk") == 1)
            await asyncio.sleep(1)  # until the workflow knows of the failure
        return record(task)

    world.answers["catalog.record_task"] = recorded
    await fail(stage, world)
    assert [request.disk for request in world.requests("transfer.copy_disk")] == ["disk0"]
    assert {task.outcome for task in world.tasks.values()} == {Outcome.FAILED}


async def test_a_worker_of_an_earlier_version_gets_disk_after_disk(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    busy: list[str] = []
    copy = world.answers["transfer.copy_disk"]

    async def alone(request: Any) -> Any:
        busy.append(request.disk)
        await asyncio.sleep(0)
        assert busy == [request.disk]
        busy.remove(request.disk)
        return copy(request)

    world.answers["transfer.copy_disk"] = alone
    assert (await succeed(stage, world)).outcome is Outcome.SUCCESS
