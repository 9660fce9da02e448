"""A restore: nothing live changes before everything is written, and nothing is left of one that fails."""

import asyncio
from typing import Any

import msgspec
import pytest
from temporalio.client import WorkflowFailureError

from activities.boundary import error_from_failure
from activities.contracts.target import TargetAbandoned
from holdfast.errors import (
    DiskNotFound,
    MachineNotFound,
    MachineRunning,
    PointNotFound,
    RequestInvalid,
    RestoredBytesDiffer,
    TargetExists,
)
from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk, Identifier, Identity, Placement, PowerState
from holdfast.model.machine_files import FileLeftOut, PlacedFiles
from holdfast.model.plan import Transport, TransportMode
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import GIB, World, a_machine, then, until_cancelled
from workflows.restore import RestoreMachine

pytestmark = pytest.mark.temporal

WRITTEN = ["repository.find_point", "target.prepare", "transfer.restore_disk"]


async def test_a_new_machine_is_made_from_the_point(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore(power=PowerState.ON))
    writes = ["transfer.restore_disk"] * 3
    assert world.names() == ["repository.find_point", "target.prepare", *writes, "target.commit"]
    (prepared,) = world.requests("target.prepare")
    assert (prepared.machine.name, prepared.replaces) == ("copy", None)
    assert world.requests("target.commit")[0].power is PowerState.ON
    assert result.session.outcome is Outcome.SUCCESS
    assert result.machine == world.machines[0]
    assert {task.detail for task in result.tasks} == {"written and compared"}


async def test_the_original_is_replaced_under_its_present_name(stage: Stage) -> None:
    world = World()
    world.answers["target.find_machine"] = lambda _: a_machine("web-renamed")
    async with stage.playing(world):
        await stage.run(RestoreMachine.run, stage.restore(new_name=None))
    (prepared,) = world.requests("target.prepare")
    assert (prepared.machine.name, prepared.replaces) == ("web-renamed", "id-web-renamed")


async def test_only_the_named_disks_are_restored(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    async with stage.playing(world):
        await stage.run(RestoreMachine.run, stage.restore(disks=(DiskKey("disk2"),)))
    assert [disk.key for disk in world.requests("target.prepare")[0].disks] == ["disk2"]
    assert [request.disk for request in world.requests("transfer.restore_disk")] == ["disk2"]


async def test_disks_are_added_to_another_machine_in_nobodys_place(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    world.answers["target.find_machine"] = lambda _: a_machine("other")
    async with stage.playing(world):
        await stage.run(RestoreMachine.run, stage.restore(new_name=None, into="other", disks=(DiskKey("disk1"),)))
    assert world.requests("target.find_machine")[0].reference == "other"
    (prepared,) = world.requests("target.prepare")
    assert prepared.replaces == "id-other"
    [key] = [disk.key for disk in prepared.disks]
    assert key == "disk1 of id-web"
    (written,) = world.requests("transfer.restore_disk")
    assert (written.disk, written.target_disk) == ("disk1", key)


async def test_a_new_machine_goes_to_the_place_that_was_asked_for(stage: Stage) -> None:
    world = World()
    placement = Placement(folder="prod", networks={"a": "b"})
    async with stage.playing(world):
        await stage.run(RestoreMachine.run, stage.restore(placement=placement))
    assert world.requests("target.prepare")[0].placement == placement


async def test_what_a_new_machine_keeps_is_asked_of_the_provider_and_shown(stage: Stage) -> None:
    world = World()
    identity = Identity(mac_addresses=Identifier.KEEP, uuid=Identifier.KEEP)
    async with stage.playing(world):
        handle = await stage.start(RestoreMachine.run, stage.restore(placement=Placement(identity=identity)))
        await handle.result()
        assert "MAC addresses, uuid" in await details(handle)
    assert world.requests("target.prepare")[0].placement.identity == identity


async def test_what_a_target_lacks_makes_a_warning(stage: Stage) -> None:
    world = World()
    usual = world.answers["target.prepare"]
    world.answers["target.prepare"] = lambda request: msgspec.structs.replace(usual(request), notes=("a", "b", "a"))
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore())
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("a", "b")


async def test_a_disk_that_the_point_has_not_is_refused_before_anything_is_made(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore(disks=(DiskKey("disk9"),)))
    assert isinstance(error_from_failure(failure), DiskNotFound)
    assert world.names() == ["repository.find_point"]


@pytest.mark.parametrize(
    "step, error, asked",
    [
        ("repository.find_point", PointNotFound("no point ab"), ["repository.find_point"]),
        ("target.prepare", TargetExists("a machine is called copy"), [*WRITTEN[:2], "target.abandon"]),
        ("transfer.restore_disk", RestoredBytesDiffer("offset 0 differs"), [*WRITTEN, "target.abandon"]),
        ("target.commit", MachineRunning("web is on"), [*WRITTEN, "target.commit", "target.abandon"]),
    ],
)
async def test_a_failed_restore_leaves_nothing(stage: Stage, step: str, error: Any, asked: list[str]) -> None:
    world = World()
    world.fail(step, error)
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore())
    assert world.names() == asked
    assert type(error_from_failure(failure)) is type(error)


async def test_what_was_asked_for_travels_with_the_undo(stage: Stage) -> None:
    world = World()
    world.fail("target.prepare", TargetExists("a machine is called copy"))
    async with stage.playing(world):
        await stage.failure(RestoreMachine.run, stage.restore())
    (abandon,) = world.requests("target.abandon")
    assert abandon.prepared == world.requests("target.prepare")[0]
    assert abandon.token == abandon.prepared.token


async def test_an_original_that_is_gone_is_not_recreated_silently(stage: Stage) -> None:
    world = World()
    world.fail("target.find_machine", MachineNotFound("no machine id-web"))
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore(new_name=None))
    assert isinstance(error_from_failure(failure), MachineNotFound)
    assert world.count("target.prepare") == 0


async def test_one_failed_disk_stops_the_others_before_the_target_goes(stage: Stage) -> None:
    world = World([a_machine("web", disks=4)])
    ended: list[str] = []
    started: set[str] = set()
    all_started = asyncio.Event()

    async def write(request: Any) -> Any:
        if request.disk == "disk0":
            await all_started.wait()
            raise RestoredBytesDiffer("disk0 differs")
        started.add(request.disk)
        if len(started) == 3:
            all_started.set()
        try:
            await until_cancelled()
        finally:
            ended.append(request.disk)

    world.answers["transfer.restore_disk"] = write

    async def note_target() -> None:
        ended.append("target")

    world.answers["target.abandon"] = then(note_target, world.answers["target.abandon"])
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore())
    assert isinstance(error_from_failure(failure), RestoredBytesDiffer)
    assert (sorted(ended[:-1]), ended[-1]) == (["disk1", "disk2", "disk3"], "target")
    assert world.count("transfer.restore_disk") == 4


async def test_a_cancelled_restore_leaves_nothing(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    world.answers["transfer.restore_disk"] = then(until_cancelled, world.answers["transfer.restore_disk"])
    async with stage.playing(world):
        handle = await stage.start(RestoreMachine.run, stage.restore())
        await world.until(lambda: world.count("transfer.restore_disk") == 2)
        progress = await handle.query(RestoreMachine.progress)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert progress.phase == "transferring"
    assert world.names()[-1] == "target.abandon"
    assert world.count("target.commit") == 0
    assert {session.outcome for session in world.sessions.values()} == {Outcome.CANCELLED}
    assert {task.outcome for task in world.tasks.values()} == {Outcome.CANCELLED}


async def test_a_disk_that_is_written_over_a_worse_way_says_so(stage: Stage) -> None:
    world = World()
    usual = world.answers["transfer.restore_disk"]
    world.answers["transfer.restore_disk"] = lambda request: msgspec.structs.replace(
        usual(request),
        transport=Transport(mode=TransportMode.NETWORK, reason="not direct", failed=("hot-add: no place is free",)),
        note="written over network because better ways failed: hot-add: no place is free",
    )
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore())
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == (
        "copy/disk0: written over network because better ways failed: hot-add: no place is free",
    )
    assert {task.detail for task in result.tasks} == {"written and compared over network: not direct"}


async def test_a_quick_rollback_writes_what_differs_in_place(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore(new_name=None, is_quick=True))
    writes = ["transfer.roll_back_disk"] * 2
    asked = ["repository.find_point", "target.find_machine", "target.prepare", *writes, "target.commit"]
    assert world.names() == asked
    (prepared,) = world.requests("target.prepare")
    assert (prepared.is_in_place, prepared.replaces) == (True, "id-web")
    assert result.session.outcome is Outcome.SUCCESS
    assert {task.detail for task in result.tasks} == {
        "quick rollback, changed: the provider tracks changes; 16 MiB written and compared"
    }


@pytest.mark.parametrize(
    "name, how",
    [
        ("transfer.restore_disk", {}),
        ("transfer.roll_back_disk", {"new_name": None, "is_quick": True}),
    ],
)
async def test_a_task_tells_that_it_waited_for_its_share_which_is_no_warning(
    stage: Stage, name: str, how: dict[str, Any]
) -> None:
    world = World()
    usual, slowed = world.answers[name], "waited 35 s for its share of throttling rule office"
    world.answers[name] = lambda request: msgspec.structs.replace(usual(request), slowed=slowed)
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore(**how))
    assert [task.detail.endswith(f"; {slowed}") for task in result.tasks] == [True]
    assert (result.session.outcome, result.session.notes) == (Outcome.SUCCESS, ())


async def test_what_a_rollback_has_to_say_makes_a_warning(stage: Stage) -> None:
    world = World()
    usual = world.answers["transfer.roll_back_disk"]
    world.answers["transfer.roll_back_disk"] = lambda request: msgspec.structs.replace(
        usual(request), note="change tracking is not to be believed"
    )
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore(new_name=None, is_quick=True))
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("web/disk0: change tracking is not to be believed",)


@pytest.mark.parametrize("where", [{"new_name": "copy"}, {"new_name": None, "into": "other"}])
async def test_only_the_original_is_rolled_back(stage: Stage, where: dict[str, Any]) -> None:
    world = World()
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore(is_quick=True, **where))
    assert isinstance(error_from_failure(failure), RequestInvalid)
    assert world.names() == []


@pytest.mark.parametrize("size_bytes", [None, 2 * GIB])
async def test_a_disk_that_does_not_fit_is_not_rolled_back(stage: Stage, size_bytes: int | None) -> None:
    world = World()
    disks = () if size_bytes is None else (Disk(key=DiskKey("disk0"), size_bytes=size_bytes),)
    world.answers["target.find_machine"] = lambda _: msgspec.structs.replace(a_machine("web"), disks=disks)
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore(new_name=None, is_quick=True))
    error = error_from_failure(failure)
    assert isinstance(error, RequestInvalid)
    assert error.hint == "Restore in full, without `--quick`."
    assert world.count("target.prepare") == 0


async def test_a_failed_rollback_gives_the_machine_back_what_it_had(stage: Stage) -> None:
    world = World()
    world.fail("transfer.roll_back_disk", RestoredBytesDiffer("offset 0 differs"))
    async with stage.playing(world):
        failure = await stage.failure(RestoreMachine.run, stage.restore(new_name=None, is_quick=True))
    assert isinstance(error_from_failure(failure), RestoredBytesDiffer)
    assert world.names()[-1] == "target.abandon"
    assert world.requests("target.abandon")[0].prepared.is_in_place
    assert world.count("target.commit") == 0


async def test_a_rollback_whose_way_back_is_gone_says_so(stage: Stage) -> None:
    world = World()
    prepared = world.answers["target.prepare"]
    world.answers["target.prepare"] = lambda request: msgspec.structs.replace(prepared(request), is_in_place=True)
    world.fail("transfer.roll_back_disk", RestoredBytesDiffer("offset 0 differs"))
    world.answers["target.abandon"] = lambda _: TargetAbandoned(removed=False)
    async with stage.playing(world):
        handle = await stage.start(RestoreMachine.run, stage.restore(new_name=None, is_quick=True))
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        shown = await details(handle)
    assert "what web held before is gone: its disks may be a mixture" in shown


def with_files(world: World) -> World:
    """Let the point keep files of the machine."""
    usual = world.answers["repository.find_point"]
    files = ("web.vmx", "web.nvram")
    world.answers["repository.find_point"] = lambda request: msgspec.structs.replace(usual(request), files=files)
    return world


async def test_a_new_machine_gets_files_before_its_disks(stage: Stage) -> None:
    world = with_files(World())
    world.answers["files.place"] = lambda _: PlacedFiles(placed=("web.nvram",))
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore())
    assert world.names()[1:3] == ["target.prepare", "files.place"]
    [request] = world.requests("files.place")
    assert (request.target_id, request.number) == ("target", 1)
    assert result.session.outcome is Outcome.SUCCESS


async def test_a_file_that_cannot_be_placed_is_a_warning(stage: Stage) -> None:
    world = with_files(World())
    lost = FileLeftOut(name="web.nvram", reason="it is refused")
    world.answers["files.place"] = lambda _: PlacedFiles(left_out=(lost,))
    async with stage.playing(world):
        result = await stage.run(RestoreMachine.run, stage.restore())
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("machine file web.nvram was not restored: it is refused",)


async def test_a_machine_that_is_there_keeps_its_own_files(stage: Stage) -> None:
    world = with_files(World())
    async with stage.playing(world):
        await stage.run(RestoreMachine.run, stage.restore(new_name=None))
    assert world.count("files.place") == 0
