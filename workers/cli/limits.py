"""``holdfast limits``: which processes are under limits that they share, and how much of them each may have."""

import typer
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from holdfast.model.limit_shares import LimitsState
from holdfast.planning.limit_shares import lowest_limits
from workers.cli import wording
from workers.cli.commands import LOOK, command
from workers.cli.invocation import Invocation
from workers.cli.sights import ANSWER_TIMEOUT
from workers.cli.starting import with_client
from workers.cli.tables import plain_table
from workflows.limits import KEEPER_ID, STATE, part_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "limits", panel=LOOK, examples=(("limits", "who is held back now, and by what"),))(limits)


def limits(run: Invocation) -> None:
    """List the throttling rules and limits under which disks are moved now, and what each worker may have of them."""
    state = with_client(run, shared_limits)
    table = plain_table("LIMIT", "OF", "WORKER", "DISKS", "MAY HAVE")
    for name, limit in sorted(lowest_limits(state.members).items()):
        for member in state.members:
            if name in member.report.limits:
                disks, rate = part_of(member, name)
                words = (member.report.label, str(disks), wording.rate(rate))
                table.add_row(name, wording.rate(limit), *words)
    run.show(state, table if state.members else "no limit holds anybody back")


async def shared_limits(client: Client) -> LimitsState:
    """Return who shares limits now."""
    try:
        found: LimitsState = await client.get_workflow_handle(KEEPER_ID).query(
            STATE, result_type=LimitsState, rpc_timeout=ANSWER_TIMEOUT
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return LimitsState()
        raise
    return found
