"""Which proxy does the work on a machine, when it begins, and where it goes on when the proxy is lost."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError

from activities.boundary import error_from_failure
from activities.contracts import resources
from holdfast.errors import ProviderUnavailable, ProxyUnavailable
from holdfast.model.ids import DiskKey
from holdfast.model.placement import DiskWay, Resources
from holdfast.model.plan import TransportMode
from holdfast.model.points import MoverAccess
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details, happens
from tests.workflows.stubs import World, a_machine, then, until_cancelled
from tests.workflows.test_machine_backup import request_for
from workflows import options, queues
from workflows.backup_job import BackupJob
from workflows.machine_backup import MachineBackup
from workflows.messages import MachineBackupRequest, MachineBackupResult
from workflows.restore import RestoreMachine

pytestmark = pytest.mark.temporal


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom nobody serves is not waited for: the server skips no time while an activity waits for a worker."""
    monkeypatch.setattr(options, "SEEN_WITHIN", timedelta(seconds=1))
    monkeypatch.setattr(options, "LOST_AFTER", timedelta(seconds=1))


def request(stage: Stage, world: World, used: Resources) -> MachineBackupRequest:
    return msgspec.structs.replace(request_for(stage, world), resources=used)


def all_of(proxy: str) -> list[str]:
    return [queues.proxy_queue(proxy), queues.look_queue(proxy), queues.transfer_queue(proxy)]


def way(mode: TransportMode | None, reason: str = "") -> resources.ProxySeen:
    return resources.ProxySeen(ways=(DiskWay(disk=DiskKey("disk0"), mode=mode, reason=reason),))


def where(world: World, name: str) -> list[str]:
    return [queue for asked, queue in world.queues if asked == name]


def take_disks_at_once(world: World) -> None:
    begin = world.answers["repository.begin_point"]
    world.answers["repository.begin_point"] = lambda r: msgspec.structs.replace(begin(r), takes_disks_at_once=True)


def looks(world: World, **modes: Any) -> None:
    """Let proxies say over which way they reach the machine."""

    def answer(_: Any) -> Any:
        proxy = world.queues[-1][1].removeprefix("proxy.").removesuffix(".look")
        return modes[proxy.partition("-")[2] or "first"]

    world.answers["proxy.look"] = answer


async def test_a_slot_is_taken_before_the_snapshot_and_given_back_at_the_end(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    take_disks_at_once(world)
    async with stage.playing(world):
        handle = await stage.start(MachineBackup.run, request(stage, world, stage.resources(tasks=2)))
        result = await handle.result()
        text = await details(handle)
        scheduler = stage.client.get_workflow_handle(resources.SCHEDULER_ID)
        await scheduler.result()  # nobody needs a slot any more
    assert result.outcome is Outcome.SUCCESS
    names = world.names("resources", "snapshot", "proxy")
    assert names[:2] == ["resources.claim", "snapshot.create"]
    assert (names.count("resources.claim"), names.count("resources.release")) == (3, 3)
    assert "the only one allowed; 0 of 2 slots were taken" in text


async def test_no_more_disks_are_copied_at_once_than_proxy_and_repository_take(stage: Stage) -> None:
    world = World([a_machine("web", disks=5)])
    take_disks_at_once(world)
    busy, most, copy = 0, 0, world.answers["transfer.copy_disk"]

    async def counted(request: Any) -> Any:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        return copy(request)

    world.answers["transfer.copy_disk"] = counted
    async with stage.playing(world):
        used = stage.resources(tasks=4, repository_tasks=1)
        handle = await stage.start(MachineBackup.run, request(stage, world, used))
        await handle.result()
    assert (world.count("transfer.copy_disk"), most) == (5, 1)


async def test_the_proxy_with_the_best_way_is_taken_and_others_are_named(stage: Stage) -> None:
    world = World()
    other, third = f"{stage.proxy}-other", f"{stage.proxy}-third"
    unseen = f"{stage.proxy}-unseen"
    looks(
        world,
        first=way(TransportMode.NETWORK),
        other=way(TransportMode.DIRECT),
        third=way(None, "its datastore is not mounted"),
    )
    served = [*all_of(other), queues.look_queue(third)]
    async with stage.playing(world, *served):
        used = stage.resources(other, third, unseen)
        handle = await stage.start(MachineBackup.run, request(stage, world, used))
        result = await handle.result()
        text = await details(handle)
    assert result.outcome is Outcome.SUCCESS
    for name in ("snapshot.create", "files.copy", "snapshot.remove"):
        assert set(where(world, name)) <= {queues.proxy_queue(other)}
    assert where(world, "transfer.copy_disk") == [queues.transfer_queue(other)]
    assert f"Proxy: {other}: direct; 0 of 2 slots were taken" in text
    assert "no way to disk disk0: its datastore is not mounted" in text
    assert f"{unseen}: no worker answers" in text


async def test_a_proxy_that_does_not_reach_the_provider_is_passed_over(stage: Stage) -> None:
    world = World()
    other = f"{stage.proxy}-other"
    world.fail(
        "proxy.look",
        ProviderUnavailable("no route to the vCenter"),
        where=lambda _: world.queues[-1][1] == queues.look_queue(stage.proxy),
    )
    async with stage.playing(world, *all_of(other)):
        result = await stage.run_backup(resources=stage.resources(other))
    assert result.session.outcome is Outcome.SUCCESS
    assert where(world, "snapshot.find_machines") == [queues.proxy_queue(other)]
    assert where(world, "transfer.copy_disk") == [queues.transfer_queue(other)]


async def test_disks_of_a_lost_proxy_go_on_at_another_and_the_session_says_so(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    take_disks_at_once(world)
    lost = f"{stage.proxy}-lost"
    looks(world, first=way(TransportMode.NETWORK), lost=way(TransportMode.DIRECT))
    # It answers, and nobody takes its transfers.
    async with stage.playing(world, queues.proxy_queue(lost), queues.look_queue(lost)):
        handle = await stage.start(MachineBackup.run, request(stage, world, stage.resources(lost)))
        result = await handle.result()
    assert isinstance(result, MachineBackupResult)
    assert result.outcome is Outcome.WARNING
    assert result.notes == (f"proxy {lost} was lost; its disks go on at another one from their last commit",)
    assert where(world, "transfer.copy_disk") == [queues.transfer_queue(stage.proxy)] * 2
    assert where(world, "snapshot.create") == [queues.proxy_queue(lost)]
    assert where(world, "snapshot.remove") == [queues.proxy_queue(stage.proxy)]
    assert world.count("resources.claim") == world.count("resources.release")


async def test_the_mover_is_told_that_another_proxy_is_the_later_one(stage: Stage) -> None:
    world = World([a_machine("web", disks=2)])
    begin = world.answers["repository.begin_point"]
    mover = MoverAccess(address="10.0.0.5:7777", has_tls=True, disks=())
    world.answers["repository.begin_point"] = lambda asked: msgspec.structs.replace(begin(asked), mover=mover)
    lost = f"{stage.proxy}-lost"
    looks(world, first=way(TransportMode.NETWORK), lost=way(TransportMode.DIRECT))
    async with stage.playing(world, queues.proxy_queue(lost), queues.look_queue(lost)):
        handle = await stage.start(MachineBackup.run, request(stage, world, stage.resources(lost)))
        await handle.result()
    # The first use was that of the proxy that nobody heard of again.
    assert [copy.point.mover.use for copy in world.requests("transfer.copy_disk")] == [2, 3]


async def test_disks_that_waited_for_a_slot_of_a_lost_proxy_do_not_wait_for_it_again(stage: Stage) -> None:
    world = World([a_machine("web", disks=3)])
    take_disks_at_once(world)
    lost = f"{stage.proxy}-lost"
    looks(world, first=way(TransportMode.NETWORK), lost=way(TransportMode.DIRECT))
    async with stage.playing(world, queues.proxy_queue(lost), queues.look_queue(lost)):
        handle = await stage.start(MachineBackup.run, request(stage, world, stage.resources(lost, tasks=1)))
        result = await handle.result()
        history = await handle.fetch_history()
    assert result.outcome is Outcome.WARNING
    assert where(world, "transfer.copy_disk") == [queues.transfer_queue(stage.proxy)] * 3
    waits = [event for event in history.events if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT]
    assert len(waits) == 1, "of the disk that had the slot"
    assert world.count("resources.claim") == world.count("resources.release")


async def test_a_restore_that_lost_its_proxy_compares_what_may_have_been_written(stage: Stage) -> None:
    world = World()
    lost = f"{stage.proxy}-lost"
    looks(world, first=way(TransportMode.NETWORK), lost=way(TransportMode.DIRECT))
    async with stage.playing(world, queues.proxy_queue(lost), queues.look_queue(lost)):
        result = await stage.run(RestoreMachine.run, stage.restore(resources=stage.resources(lost)))
    assert result.session.outcome is Outcome.WARNING
    assert where(world, "transfer.restore_disk") == [queues.transfer_queue(stage.proxy)]
    [write] = world.requests("transfer.restore_disk")
    assert write.is_again


async def test_without_any_proxy_a_session_waits_and_then_says_why(stage: Stage) -> None:
    world = World()
    world.answers["proxy.look"] = lambda _: way(None, "it is locked")
    other = f"{stage.proxy}-other"
    async with stage.playing(world, queues.look_queue(other)):
        handle = await stage.start(MachineBackup.run, request(stage, world, stage.resources(other)))
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    error = error_from_failure(caught.value)
    assert isinstance(error, ProxyUnavailable)
    assert (
        f"{stage.proxy}: no way to disk disk0: it is locked; {other}: no way to disk disk0: it is locked"
        in error.message
    )
    assert world.names() == []
    assert world.count("proxy.look") > 20


async def test_a_session_that_is_cancelled_while_it_waits_leaves_the_line(dev_stage: Stage) -> None:
    # The server that skips time stands still when a claim and a cancellation meet.
    stage, world = dev_stage, World()
    copy = world.answers["transfer.copy_disk"]
    world.answers["transfer.copy_disk"] = then(until_cancelled, copy)
    used = stage.resources(tasks=1)
    async with stage.playing(world):
        first = await stage.start(MachineBackup.run, request(stage, world, used))
        await world.until(lambda: world.count("transfer.copy_disk") == 1)
        second = await stage.start(MachineBackup.run, request(stage, world, used))
        await happens(second, EventType.EVENT_TYPE_TIMER_STARTED)
        for handle in (second, first):
            await handle.cancel()
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        left = await stage.client.get_workflow_handle(resources.SCHEDULER_ID).result()
    assert left == {"held": [], "waiting": []}
    assert world.count("snapshot.create") == 1


async def test_a_restore_goes_before_backups_that_wait(stage: Stage) -> None:
    world = World()
    gate = asyncio.Event()
    ended: list[str] = []
    copy, write = world.answers["transfer.copy_disk"], world.answers["transfer.restore_disk"]

    async def copied(request: Any) -> Any:
        await gate.wait()
        ended.append("backup")
        return copy(request)

    def written(request: Any) -> Any:
        ended.append("restore")
        return write(request)

    world.answers["transfer.copy_disk"] = copied
    world.answers["transfer.restore_disk"] = written
    used = stage.resources(tasks=1)
    async with stage.playing(world):
        handles = [await stage.start(MachineBackup.run, request(stage, world, used))]
        await world.until(lambda: world.count("transfer.copy_disk") == 1)
        handles.append(await stage.start(MachineBackup.run, request(stage, world, used)))
        await world.until(lambda: world.count("resources.claim") == 2)
        handles.append(await stage.start(RestoreMachine.run, stage.restore(resources=used)))
        await world.until(lambda: world.count("resources.claim") == 3)
        gate.set()
        for handle in handles:
            await handle.result()
    assert ended == ["backup", "restore", "backup"]


async def test_a_job_of_an_earlier_version_asks_nobody(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        await handle.result()
    assert world.names("resources", "proxy") == []
