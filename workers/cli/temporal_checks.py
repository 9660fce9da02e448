"""The checks of ``holdfast doctor`` that ask the Temporal server."""

import asyncio
from collections.abc import Sequence

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from holdfast.clock import Clock
from holdfast.errors import ConfigurationInvalid, HoldfastError, ServerUnavailable
from workers.cli import wording
from workers.cli.checks import Finding, fail, ok, warn
from workers.cli.limits import shared_limits
from workers.cli.schedule import wanted_schedules
from workers.config import Settings
from workers.health import pollers
from workers.temporal import connect
from workflows import queues
from workflows.limits import part_of
from workflows.search_attributes import declared_types

_RECENT_S = 120
"""A poller asks at least once a minute; one that did not for longer is gone."""


async def check_temporal(settings: Settings, clock: Clock) -> list[Finding]:
    """Check the server, its namespace, the search attributes, and that a worker serves every queue."""
    address = settings.temporal.address
    try:
        client = await connect(settings.temporal)
    except HoldfastError as error:
        return [fail("temporal", error)]
    findings = [ok("temporal", f"{address}, namespace {settings.temporal.namespace}")]
    findings.append(await _search_attributes(client))
    findings += await asyncio.gather(*(_queue(client, clock, *wanted) for wanted in _queues(settings)))
    findings += await _schedules(client, settings)
    findings += await _limits(client)
    return findings


async def _search_attributes(client: Client) -> Finding:
    check = "search attributes"
    try:
        request = ListSearchAttributesRequest(namespace=client.namespace)
        answer = await client.operator_service.list_search_attributes(request)
    except RPCError as error:
        return warn(check, f"they cannot be listed: {error.message}", "Ask whoever runs the cluster.")
    known = {name: _type_name(kind) for name, kind in answer.custom_attributes.items()}
    declared = declared_types()
    wrong = [name for name, kind in declared.items() if known.get(name) != kind]
    if wrong:
        hint = "Create them as docs/operating/temporal-cluster.md says; sessions cannot start without."
        return fail(check, ConfigurationInvalid(f"missing or of another type: {', '.join(wrong)}"), hint)
    return ok(check, f"all {len(declared)}")


def _type_name(kind: int) -> str:
    """Return a type as Temporal's command line spells it."""
    return IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").title()  # type: ignore[arg-type] # an enum is a number on the wire


def _queues(settings: Settings) -> Sequence[tuple[str, str]]:
    """Return every queue of the configuration and the command that serves it."""
    found = [(queues.CONTROL, "holdfast worker control")]
    for proxy in settings.proxies:
        command = f"holdfast worker proxy --name {proxy.name}"
        found += [(queues.proxy_queue(proxy.name), command), (queues.transfer_queue(proxy.name), command)]
    for repository in settings.repositories:
        command = f"holdfast worker repository --name {repository.name}"
        found += [(queues.repository_queue(repository.name), command), (queues.upkeep_queue(repository.name), command)]
    return found


async def _queue(client: Client, clock: Clock, queue: str, command: str) -> Finding:
    check = f"queue {queue}"
    try:
        found = await pollers(client, queue)
    except HoldfastError as error:
        return fail(check, error)
    now = clock.now()
    recent = [poller for poller in found if (now - poller.last_seen).total_seconds() < _RECENT_S]
    if not recent:
        hint = f"Start one with `{command}`, or all with `holdfast worker all`."
        return fail(check, ServerUnavailable("no worker serves it"), hint)
    return ok(check, f"{wording.count(len(recent), 'worker')}: {', '.join(poller.identity for poller in recent)}")


async def _schedules(client: Client, settings: Settings) -> list[Finding]:
    try:
        wanted = set(wanted_schedules(settings))
    except HoldfastError as error:
        return [fail("schedules", error)]
    if not wanted:
        return []
    try:
        known = {entry.id async for entry in await client.list_schedules()}
    except RPCError as error:
        return [warn("schedules", f"they cannot be listed: {error.message}", "Ask whoever runs the cluster.")]
    missing = sorted(name.removeprefix("job/") for name in wanted - known)
    if missing:
        return [warn("schedules", f"not applied: {', '.join(missing)}", "Run `holdfast schedule apply`.")]
    return [ok("schedules", wording.count(len(wanted), "schedule"))]


async def _limits(client: Client) -> list[Finding]:
    """Tell what workers may have now of limits that they share."""
    try:
        state = await shared_limits(client)
    except RPCError as error:
        hint = "Workers keep what they have; see whether a worker serves the queue control."
        return [warn("shared limits", f"nobody tells who has how much of them: {error.message}", hint)]
    return [
        ok(f"share of {name}", f"{member.report.label}: {wording.rate(part_of(member, name)[1])}")
        for member in state.members
        for name in member.report.limits
    ]
