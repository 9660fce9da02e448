"""A restore over disks that are there: compared as wished, and over those of another machine."""

from typing import Any

import msgspec
import pytest

from activities.boundary import error_from_failure
from holdfast.errors import DiskNotFound, RequestInvalid
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk
from holdfast.model.session import Outcome
from holdfast.planning.delta import Delta
from tests.workflows.conftest import Stage
from tests.workflows.stubs import GIB, World, a_machine
from workflows.restore import RestoreMachine

pytestmark = pytest.mark.temporal


def in_place(world: World, *, if_shared: bool) -> World:
    """Let targets begin with what is there when that must be, or may be and costs nothing."""
    usual = world.answers["target.prepare"]
    world.answers["target.prepare"] = lambda request: msgspec.structs.replace(
        usual(request), is_in_place=request.is_in_place or (if_shared and request.may_share)
    )
    usual_restore = world.answers["transfer.restore_disk"]
    world.answers["transfer.restore_disk"] = lambda request: msgspec.structs.replace(
        usual_restore(request),
        compared_bytes=GIB if request.begins_with_content else 0,
        equal_bytes=GIB - GIB // 64 if request.begins_with_content else 0,
        written_bytes=GIB // 64 if request.begins_with_content else GIB,
    )
    return world


@pytest.mark.parametrize(
    "delta, if_shared, asked, begins",
    [
        (Delta.AUTO, True, (False, True), True),
        (Delta.AUTO, False, (False, True), False),
        (Delta.ALWAYS, False, (True, False), True),
        (Delta.NEVER, True, (False, False), False),
    ],
)
async def test_disks_of_the_original_are_compared_as_wished(
    stage: Stage, delta: Delta, asked: tuple[bool, bool], *, if_shared: bool, begins: bool
) -> None:
    world = in_place(World(), if_shared=if_shared)
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore(new_name=None, delta=delta))
    (prepared,) = world.requests("target.prepare")
    assert (prepared.is_in_place, prepared.may_share) == asked
    (written,) = world.requests("transfer.restore_disk")
    assert written.begins_with_content is begins
    words = "delta: 1 GiB compared, 1008 MiB equal, 16 MiB written; written and compared"
    assert {task.detail for task in result.tasks} == {words if begins else "written and compared"}
    assert result.session.outcome is Outcome.SUCCESS


async def test_what_a_dead_attempt_had_written_is_told(stage: Stage) -> None:
    world = World()
    usual = world.answers["transfer.restore_disk"]
    world.answers["transfer.restore_disk"] = lambda request: msgspec.structs.replace(
        usual(request), compared_bytes=GIB // 2, equal_bytes=GIB // 4, written_bytes=3 * GIB // 4
    )
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore())
    [detail] = {task.detail for task in result.tasks}
    assert detail.startswith("what an earlier attempt had written was compared: 512 MiB compared, 256 MiB equal")


async def test_disks_go_over_those_of_another_machine(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    world.answers["target.find_machine"] = lambda _: a_machine("other", disks=3)
    request = stage.restore(
        new_name=None,
        into="other",
        disks=(DiskKey("disk0"), DiskKey("disk1")),
        over=(DiskKey("disk2"), DiskKey("disk0")),
        delta=Delta.ALWAYS,
    )
    async with stage.playing(world):
        await stage.run(RestoreMachine.run, request)
    (prepared,) = world.requests("target.prepare")
    assert (prepared.replaces, prepared.is_in_place) == ("id-other", True)
    assert [disk.key for disk in prepared.disks] == ["disk2", "disk0"]
    written = {(one.disk, one.target_disk) for one in world.requests("transfer.restore_disk")}
    assert written == {("disk0", "disk2"), ("disk1", "disk0")}


async def test_a_disk_over_one_that_is_not_there_is_refused(stage: Stage) -> None:
    world = World()
    world.answers["target.find_machine"] = lambda _: a_machine("other")
    request = stage.restore(new_name=None, into="other", disks=(DiskKey("disk0"),), over=(DiskKey("disk7"),))
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, request)
    assert isinstance(error_from_failure(failure), DiskNotFound)
    assert world.count("target.prepare") == 0


@pytest.mark.parametrize(
    "what",
    [
        {"new_name": "copy", "delta": Delta.ALWAYS},
        {"new_name": None, "into": "other", "delta": Delta.ALWAYS},
        {"new_name": None, "over": (DiskKey("disk0"),)},
        {"new_name": None, "into": "other", "over": (DiskKey("disk0"),)},
    ],
)
async def test_what_cannot_be_compared_or_replaced_is_refused_at_once(stage: Stage, what: dict[str, Any]) -> None:
    world = World()
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore(**what))
    assert isinstance(error_from_failure(failure), RequestInvalid)
    assert world.names() == []


@pytest.mark.parametrize("delta", [Delta.AUTO, Delta.ALWAYS])
async def test_a_disk_of_another_size_is_compared_with_nothing(stage: Stage, delta: Delta) -> None:
    world = World()
    disks = (Disk(key=DiskKey("disk0"), size_bytes=2 * GIB),)
    world.answers["target.find_machine"] = lambda _: msgspec.structs.replace(a_machine("web"), disks=disks)
    request = stage.restore(new_name=None, delta=delta)
    async with stage.playing(world):
        if delta is Delta.ALWAYS:
            error = error_from_failure(await stage.failure(RestoreMachine.run, request))
            assert isinstance(error, RequestInvalid)
            assert error.hint == "Restore in full, without `--delta`."
            return
        await stage.run(RestoreMachine.run, request)
    (prepared,) = world.requests("target.prepare")
    assert (prepared.is_in_place, prepared.may_share) == (False, False)
