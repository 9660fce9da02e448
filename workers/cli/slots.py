"""``holdfast slots``: who has a slot of a proxy and a repository, and who waits for one."""

from typing import Final

import typer
from rich.text import Text
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.contracts.resources import SCHEDULER_ID
from holdfast.model.placement import SlotsState
from workers.cli import wording
from workers.cli.commands import LOOK, command
from workers.cli.invocation import Invocation
from workers.cli.sights import ANSWER_TIMEOUT
from workers.cli.starting import with_client
from workers.cli.tables import plain_table

_QUERY: Final = "state"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "slots", panel=LOOK, examples=(("slots", "what is moved where now, and what waits"),))(slots)


def slots(run: Invocation) -> None:
    """List which disks are moved at which proxy now and why there, and which wait for room, the next one first."""
    state = with_client(run, _state)
    table = plain_table("DISK OF", "PROXY", "REPOSITORY", "=SINCE", "WHY")
    for held in state.held:
        since = wording.moment(held.since)
        table.add_row(held.claim.what, held.grant.proxy, held.claim.repository, since, held.grant.reason)
    for claim in sorted(state.waiting, key=lambda claim: (-claim.priority, claim.asked)):
        names = " or ".join(one.name for one in claim.candidates)
        table.add_row(claim.what, Text(names, "dim"), claim.repository, "", Text("waits", "yellow"))
    run.show(state, table if state.held or state.waiting else "nobody has a slot, and nobody waits for one")


async def _state(client: Client) -> SlotsState:
    """Return what the scheduler knows; without one nobody needs it."""
    scheduler = client.get_workflow_handle(SCHEDULER_ID)
    try:
        found: SlotsState = await scheduler.query(_QUERY, result_type=SlotsState, rpc_timeout=ANSWER_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return SlotsState()
        raise
    return found
