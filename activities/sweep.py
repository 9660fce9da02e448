"""Facts about what dead sessions left behind."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus

from activities.binding import implements
from activities.contracts import sweep
from activities.openers import CatalogOpener, ProviderOpener
from activities.pulse import Pulse
from activities.runs import described
from holdfast.catalog.limits import LIMIT_MAX
from holdfast.catalog.session_table import SessionFilter
from holdfast.clock import Clock
from holdfast.errors import SessionNotFound
from holdfast.model.ids import SessionId, TargetId
from holdfast.model.session import Session, SessionKind
from holdfast.model.tags import session_tag
from holdfast.planning.sweep import LeftSnapshot, LeftTarget
from holdfast.providers.checks import target_id_of

if TYPE_CHECKING:
    from datetime import datetime

_AT_ONCE: Final = 16
"""Histories read at once; each is one page with one event."""


class LeftoverActivities:
    """Serves the part of `activities.contracts.sweep` that asks a provider."""

    def __init__(self, providers: ProviderOpener, clock: Clock) -> None:
        self._providers = providers
        self._clock = clock

    @implements(sweep.find_leftovers)
    def find_leftovers(self, request: sweep.FindLeftovers) -> sweep.Leftovers:
        """Return every snapshot, restore target and attached disk of ours."""
        with Pulse(self._clock):
            provider = self._providers(request.provider)
            return sweep.Leftovers(
                snapshots=tuple(
                    LeftSnapshot(
                        machine_id=found.machine_id,
                        machine_name=found.machine.name,
                        tag=found.tag,
                        created=found.created,
                    )
                    for found in provider.open_snapshots()
                ),
                targets=tuple(
                    LeftTarget(target_id=found.target_id, machine_name=found.machine_name, undecided=found.undecided)
                    for found in provider.targets()
                ),
                attached=tuple(provider.attached_disks()),
            )

    @implements(sweep.detach_disk)
    def detach_disk(self, request: sweep.DetachDisk) -> sweep.DiskDetached:
        """Take a disk off a proxy; nothing happens when it is gone."""
        with Pulse(self._clock):
            self._providers(request.provider).detach_disk(request.attached)
            return sweep.DiskDetached()


class OwnerActivities:
    """Serves the part of `activities.contracts.sweep` that asks the catalog and Temporal."""

    def __init__(self, catalog_opener: CatalogOpener, clock: Clock) -> None:
        self._open = catalog_opener
        self._clock = clock

    @implements(sweep.find_sessions)
    def find_sessions(self, request: sweep.FindSessions) -> sweep.SessionsFound:
        """Return what the catalog knows of sessions; targets are looked for among the newest restores."""
        with Pulse(self._clock):
            found = {session.session_id: session for session in self._named(request.sessions)}
            owners: dict[TargetId, SessionId] = {}
            if request.targets:
                wanted = SessionFilter(kind=SessionKind.RESTORE, limit=LIMIT_MAX)
                restores = {one.session_id: one for one in self._open().sessions.list(wanted)}
                owners = _owners(request.targets, restores)
                found |= {session_id: restores[session_id] for session_id in owners.values()}
        return sweep.SessionsFound(sessions=tuple(map(_listed, found.values())), target_owners=owners)

    def _named(self, session_ids: Iterable[SessionId]) -> Iterable[Session]:
        for session_id in session_ids:
            try:
                yield self._open().sessions.get(session_id)
            except SessionNotFound:
                continue

    @implements(sweep.find_running)
    async def find_running(self, request: sweep.FindRunning) -> sweep.RunningFound:
        """Return which sessions run: those of all running workflows, and those asked for one by one."""
        client = activity.client()
        running = set(await _running(client, request.workflow_types))
        closed: dict[SessionId, datetime] = {}
        for session in request.listed:
            activity.heartbeat()
            if session.session_id in running:
                continue
            found = await described(client, session.workflow_id)
            if found is None or await _session_of(client, found.id, found.run_id) != session.session_id:
                continue  # forgotten, or the workflow's id belongs to a later session by now
            if found.status is WorkflowExecutionStatus.RUNNING:
                running.add(session.session_id)
            elif found.close_time is not None:
                closed[session.session_id] = found.close_time
        return sweep.RunningFound(
            sessions=tuple(sorted(running)), target_owners=_owners(request.targets, running), closed=closed
        )


class _Named(msgspec.Struct, frozen=True):
    """The part of every session's request that is looked at."""

    session_id: SessionId = SessionId("")


async def _running(client: Client, workflow_types: Sequence[str]) -> list[SessionId]:
    types = ", ".join(f"'{kind}'" for kind in workflow_types)
    query = f"ExecutionStatus = 'Running' AND WorkflowType IN ({types})"
    lanes = asyncio.Semaphore(_AT_ONCE)

    async def session_of(workflow_id: str, run_id: str) -> SessionId:
        async with lanes:
            activity.heartbeat()
            return await _session_of(client, workflow_id, run_id)

    found = [(one.id, one.run_id) async for one in client.list_workflows(query)]
    return await asyncio.gather(*(session_of(*one) for one in found))


async def _session_of(client: Client, workflow_id: str, run_id: str) -> SessionId:
    """Return the session of a run, as its first event has it; a start without an id takes that of the run."""
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    async for event in handle.fetch_history_events(page_size=1):
        payloads = event.workflow_execution_started_event_attributes.input.payloads
        [request] = await client.data_converter.decode(payloads, [_Named])
        return SessionId(request.session_id or run_id)
    return SessionId(run_id)


def _owners(targets: Iterable[TargetId], sessions: Iterable[SessionId]) -> dict[TargetId, SessionId]:
    """Return which of the targets are of which session: their ids begin with what the session's tag gives."""
    by_start = {str(target_id_of(session_tag(session_id))): session_id for session_id in sessions}
    found = {}
    for target in targets:
        session_id = by_start.get(target.partition("@")[0])
        if session_id is not None:
            found[target] = session_id
    return found


def _listed(session: Session) -> sweep.ListedSession:
    return sweep.ListedSession(
        session_id=session.session_id,
        workflow_id=session.workflow_id,
        started=session.started,
        ended=session.ended,
    )
