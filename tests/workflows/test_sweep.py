"""A sweep asks whose a thing is before it removes it, and one that cannot be removed keeps no other from it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from activities.boundary import error_from_failure
from activities.contracts import sweep
from holdfast.errors import ConfigurationInvalid, SnapshotFailed
from holdfast.model.ids import MachineId, SessionId, TargetId
from holdfast.model.machine import AttachedDisk, Choice
from holdfast.model.session import Outcome
from holdfast.model.tags import session_tag
from holdfast.planning.sweep import LeftSnapshot, LeftTarget
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World
from workflows.sweep import HOLDERS, SweepProvider

if TYPE_CHECKING:
    from workflows.messages import SessionProgress, SessionResult

pytestmark = pytest.mark.temporal

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
DEAD, ALIVE, LOST = SessionId("dead"), SessionId("alive"), SessionId("lost")
TARGET = TargetId("ab" * 16)


def left_by(session_id: SessionId) -> LeftSnapshot:
    name = f"vm-{session_id}"
    return LeftSnapshot(machine_id=MachineId(name), machine_name=name, tag=session_tag(session_id), created=LONG_AGO)


def listed(session_id: SessionId, ended: datetime | None = None) -> sweep.ListedSession:
    return sweep.ListedSession(session_id=session_id, workflow_id=f"backup/{session_id}", started=LONG_AGO, ended=ended)


@pytest.fixture
def world() -> World:
    """A dead session with a snapshot and a target, a living one, and one that nobody knows."""
    world = World()
    world.answers["sweep.find_leftovers"] = lambda _: sweep.Leftovers(
        snapshots=(left_by(DEAD), left_by(ALIVE), left_by(LOST)),
        targets=(LeftTarget(target_id=TARGET, machine_name="copy"),),
    )
    world.answers["sweep.find_sessions"] = lambda _: sweep.SessionsFound(
        sessions=(listed(DEAD), listed(ALIVE)), target_owners={TARGET: DEAD}
    )
    world.answers["sweep.find_running"] = lambda _: sweep.RunningFound(sessions=(ALIVE,), closed={DEAD: LONG_AGO})
    return world


async def test_only_what_a_dead_session_left_is_removed(stage: Stage, world: World) -> None:
    async with stage.playing(world):
        handle = await stage.start(SweepProvider.run, stage.sweep())
        result: SessionResult = await handle.result()
        shown = await details(handle)
        progress: SessionProgress = await handle.query(SweepProvider.progress)
    assert result.session.outcome is Outcome.SUCCESS
    assert progress.phase == "success"
    assert result.swept is not None
    assert (result.swept.removed, result.swept.kept) == (2, 2)
    [snapshot] = world.requests("snapshot.remove")
    [target] = world.requests("target.abandon")
    assert (snapshot.machine_id, snapshot.tag) == ("vm-dead", "holdfast-dead")
    assert target.target_id == TARGET
    assert "Found: 3 snapshots, 1 restore targets" in shown
    assert "of vm-alive: kept: session alive still runs" in shown
    assert "of copy: removed: session dead is over" in shown


async def test_who_is_asked_about_and_in_which_order(stage: Stage, world: World) -> None:
    async with stage.playing(world):
        await stage.run(SweepProvider.run, stage.sweep(is_dry_run=True))
    assert world.names() == ["sweep.find_leftovers", "sweep.find_sessions", "sweep.find_running"]
    [sessions], [running] = world.requests("sweep.find_sessions"), world.requests("sweep.find_running")
    assert (sessions.sessions, sessions.targets) == ((ALIVE, DEAD, LOST), (TARGET,))
    assert running.workflow_types == HOLDERS
    assert running.listed == (listed(DEAD), listed(ALIVE))


async def test_a_dry_run_only_tells(stage: Stage, world: World) -> None:
    async with stage.playing(world):
        result = await stage.run(SweepProvider.run, stage.sweep(is_dry_run=True))
    assert result.swept is not None
    assert [one.is_removed for one in result.swept.decisions] == [True, False, False, True]
    assert (result.swept.removed, result.swept.is_dry_run) == (0, True)


async def test_what_nobody_knows_goes_only_when_told(stage: Stage, world: World) -> None:
    async with stage.playing(world):
        await stage.run(SweepProvider.run, stage.sweep(with_unknown=True))
    assert {request.machine_id for request in world.requests("snapshot.remove")} == {"vm-dead", "vm-lost"}


async def test_a_machine_that_was_on_in_mid_rollback_is_left_to_the_operator(stage: Stage, world: World) -> None:
    left = LeftTarget(target_id=TARGET, machine_name="web", undecided="it was on")
    world.answers["sweep.find_leftovers"] = lambda _: sweep.Leftovers(targets=(left,))
    async with stage.playing(world):
        result = await stage.run(SweepProvider.run, stage.sweep())
        assert world.requests("target.abandon") == []
        assert result.session.outcome is Outcome.WARNING
        [note] = result.session.notes
        assert "of web is for you to decide: session dead is over, but it was on" in note
        await stage.run(SweepProvider.run, stage.sweep(choices={"web": Choice.KEEP}, session_id=SessionId("chosen")))
    [abandoned] = world.requests("target.abandon")
    assert (abandoned.target_id, abandoned.choice) == (TARGET, Choice.KEEP)


async def test_one_that_cannot_be_removed_is_a_note_and_the_others_go(stage: Stage, world: World) -> None:
    world.fail("snapshot.remove", SnapshotFailed("its files are locked"))
    async with stage.playing(world):
        result = await stage.run(SweepProvider.run, stage.sweep())
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("snapshot holdfast-dead of vm-dead is not removed: its files are locked",)
    assert result.swept is not None
    assert (result.swept.removed, result.swept.decisions[0].problem) == (1, "its files are locked")


async def test_where_nothing_is_left_nobody_is_asked(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        result = await stage.run(SweepProvider.run, stage.sweep())
    assert world.names() == ["sweep.find_leftovers"]
    assert result.session.outcome is Outcome.SUCCESS


async def test_a_provider_that_is_not_there_fails_the_sweep(stage: Stage) -> None:
    world = World()
    world.fail("sweep.find_leftovers", ConfigurationInvalid("no provider lab"))
    async with stage.playing(world):
        failure = await stage.failure(SweepProvider.run, stage.sweep())
    assert isinstance(error_from_failure(failure), ConfigurationInvalid)


def attached(session: SessionId, *, target: TargetId | None = None) -> AttachedDisk:
    return AttachedDisk(
        machine_id=MachineId("proxy-1"),
        machine_name="proxy",
        file=f"[a] {session}.vmdk",
        since=LONG_AGO,
        tag="" if target else session_tag(session),
        target_id=target or TargetId(""),
    )


async def test_disks_that_a_dead_session_left_at_proxies_are_detached_first(stage: Stage, world: World) -> None:
    left = world.answers["sweep.find_leftovers"]
    disks = (attached(DEAD), attached(ALIVE), attached(DEAD, target=TARGET))
    world.answers["sweep.find_leftovers"] = lambda request: msgspec.structs.replace(left(request), attached=disks)
    async with stage.playing(world):
        handle = await stage.start(SweepProvider.run, stage.sweep())
        result: SessionResult = await handle.result()
        shown = await details(handle)
    assert result.session.outcome is Outcome.SUCCESS
    # Both at once, in whichever order.
    assert {request.attached for request in world.requests("sweep.detach_disk")} == {disks[0], disks[2]}
    names = world.names()
    assert names.index("snapshot.remove") > max(at for at, name in enumerate(names) if name == "sweep.detach_disk")
    assert "Found: 3 snapshots, 1 restore targets, 3 attached disks" in shown
    assert "attached to proxy: kept: session alive still runs" in shown
