"""Heartbeats and the workflow's own answer are put together to one picture."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from temporalio import activity, workflow
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.binding import implements, served_by
from activities.contracts import transfer
from activities.contracts.transfer import CopyDisk, DiskCopied, TransferCursor
from holdfast.errors import DiskReadFailed
from holdfast.model.compression import Compression
from holdfast.model.ids import DiskKey, MachineId, PointId, ProviderName, RepositoryName, SessionId, SnapshotId
from holdfast.model.plan import ReadDecision, ReadMode
from holdfast.model.points import OpenPoint
from holdfast.model.session import Figures
from workers.cli.sights import DiskSight, Sight, Watcher, busy_shares
from workers.devserver import DevServerAddress
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings
from workflows import options
from workflows.messages import SessionProgress, TaskProgress

QUEUE = "sights"
CURSOR = TransferCursor(
    machine="web",
    disk=DiskKey("boot"),
    size_bytes=1000,
    committed_bytes=400,
    reached_bytes=500,
    figures=Figures(duration_s=10.0, source_s=4.0, proxy_s=12.0, target_s=3.0),
    rate_bytes_s=50.0,
)
REQUEST = CopyDisk(
    provider=ProviderName("lab"),
    machine_id=MachineId("m1"),
    snapshot_id=SnapshotId("s"),
    disk=DiskKey("boot"),
    repository=RepositoryName("main"),
    point=OpenPoint(
        chain="c", file="f", number=1, point_id=PointId("ab" * 16), kind="full", parent_number=None, reason="first"
    ),
    compression=Compression.NONE,
)


@workflow.defn(name="Moving")
class Moving:
    """Moves one disk and tells of two."""

    @workflow.query(name="progress")
    def progress(self) -> SessionProgress:
        boot = TaskProgress(machine="web", disk=DiskKey("boot"), size_bytes=1000, state="running", detail="full: first")
        data = TaskProgress(machine="web", disk=DiskKey("data"), size_bytes=10, state="done")
        return SessionProgress(session_id=SessionId("s"), phase="copying", tasks=(boot, data), notes=("a note",))

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(transfer.copy_disk, REQUEST, **options.transfer(QUEUE, "boot", 1000))


class Copier:
    """Fails once, then reports and waits to be let go."""

    def __init__(self) -> None:
        self.may_fail = threading.Event()
        self.may_end = threading.Event()

    @implements(transfer.copy_disk)
    def copy_disk(self, request: CopyDisk) -> DiskCopied:
        """Copy nothing."""
        activity.heartbeat(CURSOR)
        if activity.info().attempt == 1:
            assert self.may_fail.wait(30)
            message = "the cable was pulled"
            raise DiskReadFailed(message)
        assert self.may_end.wait(30)
        decision = ReadDecision(mode=ReadMode.FULL, reason="first")
        return DiskCopied(disk=request.disk, decision=decision, figures=Figures())


async def until(watcher: Watcher, attempt: int) -> DiskSight:
    """Look until the attempt has reported."""
    async with asyncio.timeout(60):
        while True:
            sight = await watcher.look()
            found = [disk for disk in sight.disks if disk.disk == "boot" and disk.reached_bytes]
            if found and found[0].attempt == attempt:
                assert sight.phase == "copying"
                assert sight.notes == ("a note",)
                return found[0]
            await asyncio.sleep(0.05)


@pytest.mark.temporal
async def test_a_disk_is_seen_through_its_attempts(dev_server: DevServerAddress) -> None:
    client = await connect(TemporalSettings(address=dev_server.grpc))
    copier = Copier()
    with ThreadPoolExecutor(1) as pool:
        async with Worker(
            client,
            task_queue=QUEUE,
            workflows=[Moving],
            activities=list(served_by(copier).values()),
            activity_executor=pool,
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            handle = await client.start_workflow(Moving.run, id="sights", task_queue=QUEUE)
            watcher = Watcher(client, handle.id, None)
            first = await until(watcher, 1)
            assert (first.reached_bytes, first.committed_bytes, first.state) == (500, 400, "transferring")
            assert (first.bottleneck, first.remaining_s, first.resumed_bytes) == ("Proxy", 10.0, None)
            copier.may_fail.set()
            second = await until(watcher, 2)
            assert second.resumed_bytes == 400
            assert second.problem == "the cable was pulled (disk-read-failed)"
            copier.may_end.set()
            await handle.result()
            last = await watcher.look()
            await watcher.close()
    assert last.is_closed
    assert [(disk.disk, disk.state) for disk in last.disks] == [("boot", "running"), ("data", "done")]


@pytest.mark.temporal
async def test_a_session_that_no_worker_takes_is_seen_to_wait(dev_server: DevServerAddress) -> None:
    client = await connect(TemporalSettings(address=dev_server.grpc))
    handle = await client.start_workflow(Moving.run, id="sights-alone", task_queue="sights.nobody")
    watcher = Watcher(client, handle.id, None)
    steps = [[(step.name, step.is_waiting) for step in (await watcher.look()).steps] for _ in range(4)]
    await watcher.close()
    await handle.terminate()
    assert steps == [[], [], [("queue sights.nobody", True)], [("queue sights.nobody", True)]]


def test_shares_are_in_the_order_of_the_pipe() -> None:
    assert list(busy_shares(CURSOR).items()) == [("Source", 0.4), ("Proxy", 1.0), ("Target", pytest.approx(0.3))]
    assert (
        busy_shares(TransferCursor(machine="", disk=DiskKey(""), size_bytes=1, committed_bytes=0, reached_bytes=0))
        == {}
    )


def test_without_a_rate_nobody_knows_how_long_it_takes() -> None:
    sight = DiskSight(machine="m", disk="d", size_bytes=10, state="transferring")
    assert (sight.remaining_s, sight.bottleneck) == (None, None)
    assert Sight(is_closed=False).disks == ()
