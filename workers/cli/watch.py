"""``holdfast watch``: follow a session that runs already."""

from typing import Annotated

import typer
from temporalio.client import Client

from activities.runs import latest
from holdfast.errors import CatalogUnavailable, SessionNotFound
from holdfast.model.ids import JobName, SessionId
from workers.cli import session_end
from workers.cli.commands import LOOK, command
from workers.cli.following import Followed, Follower, Interrupts, Pace, Result
from workers.cli.invocation import Invocation
from workers.cli.progress import display_for
from workers.cli.starting import PATIENCE_DEFAULT, PatienceOption, with_client
from workflows.messages import MachineUpkeepResult, SessionResult
from workflows.queues import MACHINE_UPKEEP, backup_id

IF_STOPPED = "it undoes what it has not finished"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "watch",
        panel=LOOK,
        examples=(
            ("watch nightly", "the session of a job that runs now"),
            ("watch restore/20250101T220000Z-1a2b3c", "a session by its workflow id"),
        ),
    )(watch)


def watch(
    run: Invocation,
    session: Annotated[str, typer.Argument(metavar="ID", help="Job, session id or workflow id.")],
    *,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Follow a session that was started elsewhere, to its end. An interrupt asks it to stop."""
    workflow_id = _workflow_id(run, session)

    if workflow_id.startswith(MACHINE_UPKEEP):
        session_end.finish_upkeep(run, _follow(run, workflow_id, patience, MachineUpkeepResult))
    else:
        session_end.finish(run, _follow(run, workflow_id, patience, SessionResult))


def _follow(run: Invocation, workflow_id: str, patience_s: float, result_type: type[Result]) -> Result:
    async def follow(client: Client) -> Result:
        found = await latest(client, workflow_id)
        one = found.workflow_id if found else workflow_id
        followed = Followed(workflow_id=one, result_type=result_type, if_stopped=IF_STOPPED)
        follower = Follower(client, followed, display_for(run), run.clock, Pace(patience_s=patience_s))
        with Interrupts() as interrupts:
            return await follower.run(interrupts)

    return with_client(run, follow)


def _workflow_id(run: Invocation, reference: str) -> str:
    """Return the workflow that ``reference`` means. Raises `SessionNotFound`."""
    if "/" in reference:
        return reference
    if any(job.name == reference for job in run.settings.jobs):
        return backup_id(JobName(reference))
    try:
        with run.catalog() as catalog:
            known = catalog.sessions.get(SessionId(reference))
    except CatalogUnavailable as error:
        raise SessionNotFound(f"{reference} is no job, and sessions cannot be looked up: {error.message}") from error
    return known.workflow_id
