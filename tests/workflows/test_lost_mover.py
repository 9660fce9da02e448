"""When the data mover of a repository is lost, whoever serves the repository now goes on with the point."""

from typing import Any

import msgspec
import pytest

from activities.boundary import error_from_failure
from holdfast.errors import LinkLost, PointNotFound
from holdfast.model.points import MoverAccess
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine
from tests.workflows.test_slots import request
from workflows.machine_backup import MachineBackup
from workflows.messages import MachineBackupRequest

pytestmark = pytest.mark.temporal

FIRST, SECOND = "10.0.0.5:7777", "10.0.0.6:7777"


def a_world(file: str = "00000001-full.hfc", second: str = SECOND) -> World:
    """A machine with three disks, and a repository that is found again at ``second``, and begins ``file`` there."""
    world = World([a_machine("web", disks=3)])
    begin = world.answers["repository.begin_point"]

    def begun(asked: Any) -> Any:
        is_first = world.count("repository.begin_point") == 1
        mover = MoverAccess(address=FIRST if is_first else second, has_tls=True, disks=())
        point = msgspec.structs.replace(begin(asked), mover=mover, takes_disks_at_once=True)
        return point if is_first else msgspec.structs.replace(point, file=file)

    world.answers["repository.begin_point"] = begun
    lost = LinkLost("no connection for 1800 s")
    is_back = second == FIRST
    world.fail(
        "transfer.copy_disk",
        lost,
        where=lambda asked: is_at(asked, FIRST) and not (is_back and world.count("repository.begin_point") > 1),
    )
    return world


def is_at(asked: Any, address: str) -> bool:
    return bool(asked.point.mover.address == address)


def scheduled(stage: Stage, world: World) -> MachineBackupRequest:
    return request(stage, world, stage.resources(tasks=3))


async def test_every_disk_goes_on_at_the_other_mover_and_the_point_is_begun_again_once(dev_stage: Stage) -> None:
    world = a_world()
    async with dev_stage.playing(world):
        handle = await dev_stage.start(MachineBackup.run, scheduled(dev_stage, world))
        result = await handle.result()
    assert result.outcome is Outcome.WARNING
    assert result.notes == ("the repository's data mover was lost; the disks go on at another one",)
    assert world.count("repository.begin_point") == 2
    copies = world.requests("transfer.copy_disk")
    assert sorted(copy.disk for copy in copies if is_at(copy, SECOND)) == ["disk0", "disk1", "disk2"]
    assert world.count("resources.claim") == world.count("resources.release") == 3


async def test_a_mover_that_comes_back_is_no_reason_to_warn(dev_stage: Stage) -> None:
    world = a_world(second=FIRST)
    async with dev_stage.playing(world):
        handle = await dev_stage.start(MachineBackup.run, scheduled(dev_stage, world))
        result = await handle.result()
    assert (result.outcome, result.notes) == (Outcome.SUCCESS, ())
    assert world.count("repository.begin_point") == 2


async def test_a_point_that_is_another_one_is_not_gone_on_with(dev_stage: Stage) -> None:
    world = a_world("00000002-full.hfc")
    async with dev_stage.playing(world):
        failure = await dev_stage.failure(MachineBackup.run, scheduled(dev_stage, world))
    assert isinstance(error_from_failure(failure), PointNotFound)
    assert world.count("repository.finish_point") == 0
