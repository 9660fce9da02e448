"""A restore whose data mover is lost goes on at whoever serves the repository now, as a backup does."""

from typing import Any

import msgspec
import pytest

from activities.boundary import error_from_failure
from holdfast.errors import LinkLost, PointNotFound
from holdfast.model.points import MoverAccess
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine
from workflows.messages import RestoreRequest
from workflows.restore import RestoreMachine

pytestmark = pytest.mark.temporal

FIRST, SECOND = "10.0.0.5:7777", "10.0.0.6:7777"
LOST = "the repository's data mover was lost; the disks go on at another one"


def a_world(writes: str, *, second: str = SECOND, number: int = 1) -> World:
    """A machine with three disks, and a point that is found again at ``second``, under ``number``."""
    world = World([a_machine("web", disks=3)])
    find = world.answers["repository.find_point"]

    def found(asked: Any) -> Any:
        is_first = world.count("repository.find_point") == 1
        mover = MoverAccess(address=FIRST if is_first else second, has_tls=True, disks=())
        return msgspec.structs.replace(find(asked), mover=mover, number=1 if is_first else number)

    world.answers["repository.find_point"] = found
    is_back = second == FIRST
    world.fail(
        writes,
        LinkLost("no connection for 1800 s"),
        where=lambda asked: is_at(asked, FIRST) and not (is_back and world.count("repository.find_point") > 1),
    )
    return world


def is_at(asked: Any, address: str) -> bool:
    return bool(asked.mover.address == address)


def scheduled(stage: Stage, **changes: Any) -> RestoreRequest:
    return stage.restore(resources=stage.resources(tasks=3), **changes)


async def test_every_disk_goes_on_at_the_other_mover_and_the_point_is_looked_up_once_more(dev_stage: Stage) -> None:
    world = a_world("transfer.restore_disk")
    async with dev_stage.playing(world):
        result = await dev_stage.run(RestoreMachine.run, scheduled(dev_stage, point="newest"))
    assert (result.session.outcome, result.session.notes) == (Outcome.WARNING, (LOST,))
    assert [asked.reference for asked in world.requests("repository.find_point")] == ["newest", "ab" * 16]
    writes = world.requests("transfer.restore_disk")
    assert sorted(write.disk for write in writes if is_at(write, SECOND)) == ["disk0", "disk1", "disk2"]
    earlier = [[other.disk for other in writes[:index]] for index in range(len(writes))]
    assert [write.is_again for write in writes] == [
        write.disk in before for write, before in zip(writes, earlier, strict=True)
    ]
    assert any(write.is_again for write in writes)
    assert world.count("resources.claim") == world.count("resources.release") == 3


async def test_a_quick_rollback_goes_on_as_well(dev_stage: Stage) -> None:
    world = a_world("transfer.roll_back_disk")
    world.answers["target.find_machine"] = lambda _: world.machines[0]
    async with dev_stage.playing(world):
        result = await dev_stage.run(RestoreMachine.run, scheduled(dev_stage, new_name=None, is_quick=True))
    assert result.session.outcome is Outcome.WARNING
    backs = world.requests("transfer.roll_back_disk")
    assert sorted(back.disk for back in backs if is_at(back, SECOND)) == ["disk0", "disk1", "disk2"]
    earlier = [{other.disk for other in backs[:index]} for index in range(len(backs))]
    assert [back.is_again for back in backs] == [
        back.disk in before for back, before in zip(backs, earlier, strict=True)
    ]
    assert any(back.is_again for back in backs)


async def test_a_mover_that_comes_back_is_no_reason_to_warn(dev_stage: Stage) -> None:
    world = a_world("transfer.restore_disk", second=FIRST)
    async with dev_stage.playing(world):
        result = await dev_stage.run(RestoreMachine.run, scheduled(dev_stage))
    assert (result.session.outcome, result.session.notes) == (Outcome.SUCCESS, ())
    assert world.count("repository.find_point") == 2


async def test_a_point_that_lies_elsewhere_now_is_not_gone_on_with(dev_stage: Stage) -> None:
    world = a_world("transfer.restore_disk", number=2)
    async with dev_stage.playing(world):
        failure = await dev_stage.failure(RestoreMachine.run, scheduled(dev_stage))
    assert isinstance(error_from_failure(failure), PointNotFound)
    assert world.count("target.commit") == 0


async def test_other_failures_are_no_reason_to_ask(dev_stage: Stage) -> None:
    world = a_world("transfer.restore_disk")
    world.answers["transfer.restore_disk"] = lambda _: _raise(PointNotFound("no such point"))
    async with dev_stage.playing(world):
        failure = await dev_stage.failure(RestoreMachine.run, scheduled(dev_stage))
    assert isinstance(error_from_failure(failure), PointNotFound)
    assert world.count("repository.find_point") == 1


def _raise(error: PointNotFound) -> None:
    raise error


async def test_files_of_a_machine_go_on_at_the_other_mover(dev_stage: Stage) -> None:
    world = a_world("files.place")
    find = world.answers["repository.find_point"]
    world.answers["repository.find_point"] = lambda asked: msgspec.structs.replace(find(asked), files=("web.nvram",))
    async with dev_stage.playing(world):
        result = await dev_stage.run(RestoreMachine.run, scheduled(dev_stage, point="newest"))
    assert (result.session.outcome, result.session.notes) == (Outcome.WARNING, (LOST,))
    assert [is_at(asked, SECOND) for asked in world.requests("files.place")] == [False, True]
    assert {asked.mover.address for asked in world.requests("transfer.restore_disk")} == {SECOND}
