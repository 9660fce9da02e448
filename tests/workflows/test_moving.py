"""Chains that change their place or owner: held, changed, told, let go; and what is cancelled is taken back."""

from typing import Any

import msgspec
import pytest
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError

from activities.boundary import error_from_failure
from activities.contracts import catalog, moving, snapshot
from activities.contracts.repository import BeginPoint
from activities.contracts.sessions import ChildRun
from activities.sessions import SessionActivities
from holdfast.errors import MachineNotFound, RepositoryFull, RequestInvalid
from holdfast.model.ids import ChainId, MachineId, ProviderName, RepositoryName
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import NOON, World, a_machine, too_late, until_cancelled
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.chain_messages import ChainTask, HoldRequest, MoveRequest
from workflows.holding import HoldMachine
from workflows.moving import MoveChains

pytestmark = pytest.mark.temporal
CHAINS = ("machines/web-00000000/000001-00000000", "machines/web-00000000/000002-00000000")
CHAIN_ID = ChainId("ab" * 16)


def a_request(stage: Stage, task: ChainTask, **changes: object) -> MoveRequest:
    request = MoveRequest(
        task=task,
        repository=stage.repository,
        folder="web-00000000",
        machine_id=MachineId("id-web"),
        machine_name="web",
    )
    return msgspec.structs.replace(request, **changes)


def away(stage: Stage) -> RepositoryName:
    return RepositoryName(f"{stage.repository}-away")


def a_world() -> World:
    world = World()
    world.answers |= {
        "moving.find_chains": lambda _: moving.ChainsFound(chains=CHAINS),
        "moving.move_chain": lambda request: moving.ChainMoved(
            place=place(request.chain), points=2, size_bytes=1 << 30
        ),
        "moving.give_machine": lambda request: moving.MachineGiven(folder="new", chains=(place(CHAINS[0]),), points=3),
        "moving.discard": lambda _: moving.Discarded(),
        "moving.relocate": lambda _: catalog.Recorded(),
    }
    return world


def place(chain: str) -> moving.ChainPlace:
    return moving.ChainPlace(chain=chain, chain_id=CHAIN_ID, machine_id=MachineId("id-web"), machine_name="web")


async def test_all_chains_move_and_the_catalog_is_told(stage: Stage) -> None:
    world, to = a_world(), away(stage)
    async with stage.playing(world, queues.chain_queue(to)):
        handle = await stage.start(MoveChains.run, a_request(stage, ChainTask.MOVE, to=to))
        result = await handle.result()
        text = await details(handle)
    assert result.session.outcome is Outcome.SUCCESS
    assert [one.chain for one in world.requests("moving.move_chain")] == [*CHAINS]
    assert {queue for name, queue in world.queues if name == "moving.move_chain"} == {queues.chain_queue(to)}
    assert [(one.repository, one.to) for one in world.requests("moving.relocate")] == [(stage.repository, to)] * 2
    assert world.count("moving.discard") == 0
    assert "2 points, 1 GiB" in text


async def test_a_backup_that_starts_meanwhile_is_refused_and_the_next_is_not(stage: Stage) -> None:
    world, to = a_world(), away(stage)
    problems = []

    async def moved(request: moving.MoveChain) -> moving.ChainMoved:
        failed = await stage.failure(BackupJob.run, stage.backup())
        problems.append(str(error_from_failure(failed)))
        return moving.ChainMoved(place=place(request.chain), points=2, size_bytes=1)

    world.answers["moving.find_chains"] = lambda _: moving.ChainsFound(chains=CHAINS[:1])
    world.answers["moving.move_chain"] = moved
    async with stage.playing(world, queues.chain_queue(to)):
        await stage.run(MoveChains.run, a_request(stage, ChainTask.MOVE, to=to))
        assert world.requests("repository.begin_point") == []
        result = await stage.run_backup()
    assert "chain-busy" in problems[0]
    assert result.session.outcome is Outcome.SUCCESS
    [begun] = world.requests("repository.begin_point")
    assert isinstance(begun, BeginPoint)


async def test_a_move_waits_for_the_session_of_the_machine(stage: Stage) -> None:
    world, to = a_world(), away(stage)
    order: list[str] = []

    async def frozen(request: object) -> object:
        if not order:
            order.append("snapshot")
            handle.append(await stage.start(MoveChains.run, a_request(stage, ChainTask.MOVE, to=to)))
        return usual(request)

    handle: list[WorkflowHandle[Any, Any]] = []
    usual = world.answers["snapshot.create"]
    world.answers["snapshot.create"] = frozen
    async with stage.playing(world, queues.chain_queue(to)):
        assert (await stage.run_backup()).session.outcome is Outcome.SUCCESS
        result = await handle[0].result()
    assert result.session.outcome is Outcome.SUCCESS


async def test_a_hold_whose_start_was_answered_to_nobody_is_the_sessions_own(stage: Stage) -> None:
    """A server on an SQL store may start a child, lose the answer, and say that it runs already."""
    world = a_world()
    machine = HoldRequest(repository=stage.repository, machine_id=MachineId("id-web"), machine_name="web")
    child_id = queues.machine_backup_id(stage.repository, machine.machine_id, machine.machine_name)
    async with stage.playing(world):
        lost = await stage.client.start_workflow(HoldMachine.run, machine, id=child_id, task_queue=queues.CONTROL)
        ours = ChildRun(workflow_id=child_id, run_id=lost.first_execution_run_id or "")
        world.answers["sessions.find_child"] = lambda _: ours
        world.answers["sessions.follow_child"] = SessionActivities().follow_child
        await stage.run(MoveChains.run, a_request(stage, ChainTask.RENAME, new_name="front"))
        await lost.result()
        assert (await stage.run_backup()).session.outcome is Outcome.SUCCESS
    assert world.count("moving.give_machine") == 1


async def test_a_cancelled_move_takes_its_copy_back(stage: Stage) -> None:
    world, to = a_world(), away(stage)

    async def never(_: object) -> None:
        await until_cancelled()

    world.answers["moving.move_chain"] = never
    async with stage.playing(world, queues.chain_queue(to)):
        handle = await stage.start(MoveChains.run, a_request(stage, ChainTask.MOVE, to=to))
        await world.until(lambda: world.count("moving.move_chain") == 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert (await stage.run_backup()).session.outcome is Outcome.SUCCESS
    assert [one.chain for one in world.requests("moving.discard")] == [CHAINS[0]]


async def cancelled(stage: Stage, world: World, request: MoveRequest, during: str) -> None:
    """Run what is cancelled while the activity ``during`` is at its end, which nothing stops any more."""
    world.answers[during] = too_late(world.answers[during])
    async with stage.playing(world, queues.chain_queue(away(stage))):
        handle = await stage.start(MoveChains.run, request)
        await world.until(lambda: world.count(during) == 1)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def test_a_chain_that_moved_before_a_cancellation_is_told_to_the_catalog(stage: Stage) -> None:
    world, to = a_world(), away(stage)
    await cancelled(stage, world, a_request(stage, ChainTask.MOVE, to=to), "moving.move_chain")
    assert [one.chain for one in world.requests("moving.move_chain")] == [CHAINS[0]]
    assert [(one.to, one.chains) for one in world.requests("moving.relocate")] == [(to, (place(CHAINS[0]),))]
    assert world.count("moving.discard") == 0


async def test_a_machine_that_was_given_away_before_a_cancellation_is_told_to_the_catalog(stage: Stage) -> None:
    world = a_world()
    await cancelled(stage, world, a_request(stage, ChainTask.RENAME, new_name="front"), "moving.give_machine")
    assert [one.chains for one in world.requests("moving.relocate")] == [(place(CHAINS[0]),)]


async def test_a_move_without_room_ends_and_leaves_nothing(stage: Stage) -> None:
    world, to = a_world(), away(stage)
    world.fail("moving.move_chain", RepositoryFull("no room"))
    async with stage.playing(world, queues.chain_queue(to)):
        failed = await stage.failure(MoveChains.run, a_request(stage, ChainTask.MOVE, to=to))
    assert isinstance(error_from_failure(failed), RepositoryFull)
    assert world.count("moving.discard") == 1


async def test_a_locked_chain_stays_and_is_told(stage: Stage) -> None:
    world, to = a_world(), away(stage)
    world.answers["moving.move_chain"] = lambda request: moving.ChainMoved(
        place=place(request.chain), points=2, size_bytes=1, stays_until=NOON
    )
    async with stage.playing(world, queues.chain_queue(to)):
        result = await stage.run(MoveChains.run, a_request(stage, ChainTask.MOVE, to=to))
    assert result.session.outcome is Outcome.WARNING
    assert all("locked until 2026-11-20T12:00" in note for note in result.session.notes)
    assert world.count("moving.relocate") == 0


async def test_a_machine_is_mapped_to_what_its_provider_knows(stage: Stage) -> None:
    world = a_world()
    world.machines = (a_machine("new"),)
    request = a_request(
        stage,
        ChainTask.MAP,
        new_id=MachineId("new"),
        provider=ProviderName("lab"),
        proxy=stage.proxy,
        unit_size=1 << 20,
    )
    async with stage.playing(world):
        handle = await stage.start(MoveChains.run, request)
        await handle.result()
        text = await details(handle)
    [given] = world.requests("moving.give_machine")
    assert (given.machine_id, given.machine_name, given.unit_size) == ("id-new", "new", 1 << 20)
    [told] = world.requests("moving.relocate")
    assert told.to == stage.repository
    assert "compares every disk" in text


async def test_a_machine_is_renamed(stage: Stage) -> None:
    world = a_world()
    async with stage.playing(world):
        await stage.run(MoveChains.run, a_request(stage, ChainTask.RENAME, new_name="front"))
    [given] = world.requests("moving.give_machine")
    assert (given.machine_id, given.machine_name) == ("id-web", "front")


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"new_id": MachineId("id-web")}, RequestInvalid),
        ({"new_id": MachineId("x"), "provider": ProviderName("lab")}, MachineNotFound),
        ({"task": ChainTask.MOVE}, RequestInvalid),
        ({"task": ChainTask.MOVE, "to": RepositoryName("x")}, MachineNotFound),
    ],
)
async def test_what_cannot_be_done_is_refused(stage: Stage, changes: dict[str, object], error: type) -> None:
    world = a_world()
    world.machines = ()
    world.answers["snapshot.find_machines"] = lambda _: snapshot.MachinesFound(machines=())
    world.answers["moving.find_chains"] = lambda _: moving.ChainsFound()
    if changes == {"task": ChainTask.MOVE}:
        changes = changes | {"to": stage.repository}
    request = a_request(stage, ChainTask.MAP, proxy=stage.proxy)
    async with stage.playing(world):
        failed = await stage.failure(MoveChains.run, msgspec.structs.replace(request, **changes))
    assert isinstance(error_from_failure(failed), error)
