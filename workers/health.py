"""Signs of life: a file that a worker process keeps while it serves, and who polls a queue."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from holdfast.clock import Clock
from holdfast.errors import ServerUnavailable


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a readiness file."""

    pid: int
    since: datetime
    queues: tuple[str, ...]


class Poller(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that asked a queue for work in the last minutes."""

    identity: str
    """Process id and host."""
    last_seen: datetime


@contextmanager
def ready_file(path: Path | None, queues: Sequence[str], clock: Clock) -> Iterator[None]:
    """Keep a file at ``path`` while the block runs: it is there if and only if the process serves.

    A process that is killed leaves its file; ``pid`` tells. None: no file is wanted.
    """
    if path is None:
        yield
        return
    content = Readiness(pid=os.getpid(), since=clock.now(), queues=tuple(queues))
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(msgspec.json.encode(content))
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def pollers(client: Client, queue: str) -> tuple[Poller, ...]:
    """Return who serves a queue's activities, newest sign of life first. Raises `ServerUnavailable`."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    )
    try:
        answer = await client.workflow_service.describe_task_queue(request)
    except RPCError as error:
        raise ServerUnavailable(f"queue {queue} cannot be looked at: {error.message}") from error
    found = [
        Poller(identity=poller.identity, last_seen=poller.last_access_time.ToDatetime(UTC)) for poller in answer.pollers
    ]
    return tuple(sorted(found, key=lambda poller: poller.last_seen, reverse=True))
