"""What a running session looks like from outside, put together from what Temporal knows of it.

The workflow's own answer to the query ``progress`` says what there is to do; the heartbeats of pending activities, of
the workflow and of its children, say how far each disk is. Neither needs the catalog.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final, TypeVar

import msgspec
from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError

from activities.binding import contract_name
from activities.boundary import error_from_failure
from activities.contracts import repository, retention, rollback, transfer
from activities.contracts.repository import VerifyCursor
from activities.contracts.retention import CarryOutCursor
from activities.contracts.transfer import TransferCursor
from holdfast.planning.bottleneck import bottleneck, busy_percent
from workflows.messages import SessionProgress, TaskProgress

RPC_TIMEOUT: Final = timedelta(seconds=5)
ANSWER_TIMEOUT: Final = timedelta(seconds=15)
"""For what a worker answers, not the server: on a busy host it first reads a history again."""
_QUERY_TIMEOUT: Final = timedelta(seconds=3)
_ANSWER_S: Final = 0.5
"""How long a look waits for the workflow's own answer; a later one is for the next look."""
_UNTAKEN_LOOKS = 3
"""After how many looks a workflow that no worker takes is told of; between two steps it may wait for a moment."""
_CHILDREN_MAX = 64
"""How many children are looked at; a session works on fewer machines at once."""
_TRANSFERS = frozenset(
    contract_name(contract) for contract in (transfer.copy_disk, transfer.restore_disk, rollback.roll_back_disk)
)
_VERIFY = contract_name(repository.verify_points)
_CARRY_OUT = contract_name(retention.carry_out)
_DONE = frozenset({"done", "restored"})
_Cursor = TypeVar("_Cursor", TransferCursor, VerifyCursor, CarryOutCursor)


class DiskSight(msgspec.Struct, frozen=True, kw_only=True):
    """How one disk stands."""

    machine: str
    disk: str
    size_bytes: int
    state: str
    """As the workflow says it: waiting, snapshot, transferring, done, failed or cancelled."""
    detail: str = ""
    reached_bytes: int = 0
    committed_bytes: int = 0
    rate_bytes_s: float = 0.0
    busy_shares: dict[str, float] = {}
    """Part of the time each stage of the data pipe was busy, 0 to 1, in the order of the pipe."""
    attempt: int = 1
    resumed_bytes: int | None = None
    """Where the present attempt went on; None for a first attempt, or when it was not seen to begin."""
    problem: str = ""
    """Why the last attempt ended, when there was one."""

    bottleneck: str | None = None
    """The stage that was busy most, None when nothing is known."""

    @property
    def remaining_s(self) -> float | None:
        """Return how long the rest takes at the present rate, None when that cannot be told."""
        return (self.size_bytes - self.reached_bytes) / self.rate_bytes_s if self.rate_bytes_s > 0 else None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A pending activity that moves no disk, or the session itself when no worker takes it."""

    name: str
    workflow_id: str
    is_waiting: bool
    """Whether no worker has taken it yet."""
    attempt: int
    problem: str = ""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a session."""

    is_closed: bool
    phase: str = ""
    disks: tuple[DiskSight, ...] = ()
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    verified: VerifyCursor | None = None
    """How far a verification is."""
    retained: tuple[CarryOutCursor, ...] = ()
    """How far merges and removals are, chain by chain."""


class _Live(msgspec.Struct, frozen=True, kw_only=True):
    """A pending activity, decoded."""

    name: str
    workflow_id: str
    info: Any
    transfer: TransferCursor | None = None
    verify: VerifyCursor | None = None
    retain: CarryOutCursor | None = None
    problem: str = ""


class _Attempt(msgspec.Struct):
    """What is remembered of a disk between two looks."""

    number: int
    committed_bytes: int
    resumed_bytes: int | None = None


class Watcher:
    """Looks at one session again and again; remembers what only two looks can tell."""

    def __init__(self, client: Client, workflow_id: str, run_id: str | None) -> None:
        self._client = client
        self._handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        self._progress: SessionProgress | None = None
        self._asking: asyncio.Future[None] | None = None
        self._untaken_looks = 0
        self._attempts: dict[tuple[str, str], _Attempt] = {}

    async def look(self) -> Sight:
        """Return how the session stands. Raises `RPCError` when the server does not answer."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        described = await self._handle.describe(rpc_timeout=RPC_TIMEOUT)
        await asyncio.wait([self._asking], timeout=_ANSWER_S)
        if described.status is not WorkflowExecutionStatus.RUNNING:
            return self._sight([], is_closed=True)
        everyone = [described, *await self._children(described)]
        found = [await self._live(one.id, info) for one in everyone for info in one.raw_description.pending_activities]
        sight = self._sight(found, is_closed=False)
        return msgspec.structs.replace(sight, steps=(*self._untaken(described), *sight.steps))

    def _untaken(self, described: WorkflowExecutionDescription) -> tuple[Step, ...]:
        """Return the session as a step that waits, when no worker has taken it for a while."""
        task = described.raw_description.pending_workflow_task
        is_untaken = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
        self._untaken_looks = self._untaken_looks + 1 if is_untaken else 0
        if self._untaken_looks < _UNTAKEN_LOOKS:
            return ()
        name = f"queue {described.task_queue}"
        return (Step(name=name, workflow_id=described.id, is_waiting=True, attempt=task.attempt),)

    async def close(self) -> None:
        """Stop asking. Call once, at the end."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        """Ask the workflow itself. Without a worker it cannot answer; what it said last is kept.

        A server that is away, or refuses, is told by the description, which is asked for at the same time.
        """
        with suppress(WorkflowQueryFailedError, RPCError):
            self._progress = await self._handle.query(
                "progress", result_type=SessionProgress, rpc_timeout=_QUERY_TIMEOUT
            )

    async def _children(self, parent: WorkflowExecutionDescription) -> Sequence[WorkflowExecutionDescription]:
        pending = [child.workflow_id for child in parent.raw_description.pending_children][:_CHILDREN_MAX]
        handles = [self._client.get_workflow_handle(workflow_id) for workflow_id in pending]
        return await asyncio.gather(*(handle.describe(rpc_timeout=RPC_TIMEOUT) for handle in handles))

    async def _live(self, workflow_id: str, info: PendingActivityInfo) -> _Live:
        name = info.activity_type.name
        problem = await self._problem(info)
        live = _Live(name=name, workflow_id=workflow_id, info=info, problem=problem)
        if name in _TRANSFERS:
            return msgspec.structs.replace(live, transfer=await self._decoded(info.heartbeat_details, TransferCursor))
        if name == _VERIFY:
            return msgspec.structs.replace(live, verify=await self._decoded(info.heartbeat_details, VerifyCursor))
        if name == _CARRY_OUT:
            return msgspec.structs.replace(live, retain=await self._decoded(info.heartbeat_details, CarryOutCursor))
        return live

    async def _decoded(self, details: Payloads, kind: type[_Cursor]) -> _Cursor | None:
        """Return the cursor in a heartbeat, None when there is none or another version wrote it."""
        if not details.payloads:
            return None
        try:
            cursor: _Cursor = (await self._client.data_converter.decode(details.payloads[:1], [kind]))[0]
        except (msgspec.MsgspecError, RuntimeError, ValueError):
            return None  # figures for people to look at; the session does not depend on them
        return cursor

    async def _problem(self, info: PendingActivityInfo) -> str:
        if not info.HasField("last_failure"):
            return ""
        failure = await self._client.data_converter.decode_failure(info.last_failure)
        ours = error_from_failure(failure)
        return f"{ours.message} ({ours.code})" if ours is not None else str(failure)

    def _sight(self, found: Sequence[_Live], *, is_closed: bool) -> Sight:
        progress = self._progress
        told = progress.tasks if progress is not None else ()
        named = {(task.machine, str(task.disk)): task for task in told}
        moving = {_key(live.transfer, named): live for live in found if live.transfer is not None}
        disks = [self._disk(key, named.get(key), moving.get(key)) for key in [*named, *(moving.keys() - named.keys())]]
        return Sight(
            is_closed=is_closed,
            phase=progress.phase if progress is not None else "",
            disks=tuple(disks),
            steps=tuple(_steps(found)),
            notes=progress.notes if progress is not None else (),
            verified=next((live.verify for live in found if live.verify is not None), None),
            retained=tuple(live.retain for live in found if live.retain is not None),
        )

    def _disk(self, key: tuple[str, str], task: TaskProgress | None, live: _Live | None) -> DiskSight:
        if live is None or live.transfer is None:
            assert task is not None, "a disk is told of by the workflow or by a heartbeat"
            return _still(task)
        cursor, attempt = live.transfer, self._seen(key, live)
        return DiskSight(
            machine=key[0],
            disk=key[1],
            size_bytes=cursor.size_bytes,
            state="transferring",
            detail=task.detail if task is not None else "",
            reached_bytes=cursor.reached_bytes,
            committed_bytes=cursor.committed_bytes,
            rate_bytes_s=cursor.rate_bytes_s,
            busy_shares=busy_shares(cursor),
            bottleneck=bottleneck(cursor.figures),
            attempt=attempt.number,
            resumed_bytes=attempt.resumed_bytes,
            problem=live.problem,
        )

    def _seen(self, key: tuple[str, str], live: _Live) -> _Attempt:
        """Remember where the disk is; the first look at a further attempt tells where it went on."""
        assert live.transfer is not None
        number, committed = live.info.attempt, live.transfer.committed_bytes
        known = self._attempts.get(key)
        if known is None or known.number != number:
            resumed = None if known is None else known.committed_bytes
            known = self._attempts[key] = _Attempt(number, committed, resumed)
        known.committed_bytes = committed
        return known


def _key(cursor: TransferCursor, named: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return machine and disk as the workflow names them: a restore is done under the name of the new machine."""
    told = (cursor.machine, str(cursor.disk))
    alike = [key for key in named if key[1] == told[1]]
    return told if told in alike or len(alike) != 1 else alike[0]


def busy_shares(cursor: TransferCursor) -> dict[str, float]:
    """Return the part of the time each stage was busy; nothing from a worker of an earlier version."""
    return {str(stage): percent / 100 for stage, percent in busy_percent(cursor.figures).items()}


def _still(task: TaskProgress) -> DiskSight:
    """Return a disk that is not being moved now."""
    is_done = task.state in _DONE
    return DiskSight(
        machine=task.machine,
        disk=task.disk,
        size_bytes=task.size_bytes,
        state=task.state,
        detail=task.detail,
        reached_bytes=task.size_bytes if is_done else 0,
        committed_bytes=task.size_bytes if is_done else 0,
    )


def _steps(found: Iterable[_Live]) -> Iterable[Step]:
    for live in found:
        is_waiting = live.info.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
        if live.transfer is None or is_waiting:
            yield Step(
                name=live.name,
                workflow_id=live.workflow_id,
                is_waiting=is_waiting,
                attempt=live.info.attempt,
                problem=live.problem,
            )
