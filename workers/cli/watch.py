"""``holdfast watch``: follow a session that runs already."""

from typing import Annotated

import typer
from temporalio.client import Client

from activities.runs import latest
from holdfast.errors import CatalogUnavailable, SessionNotFound
from holdfast.model.ids import JobName, SessionId
from workers.cli import session_end
from workers.cli.commands import LOOK, command
from workers.cli.following import Followed, Follower, Interrupts, Pace
from workers.cli.invocation import Invocation
from workers.cli.progress import display_for
from workers.cli.starting import PATIENCE_DEFAULT, PatienceOption, with_client
from workflows.messages import SessionResult
from workflows.queues import backup_id

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

    async def follow(client: Client) -> SessionResult:
        found = await latest(client, workflow_id)
        followed = Followed(workflow_id=found.workflow_id if found else workflow_id, if_stopped=IF_STOPPED)
        follower = Follower(client, followed, display_for(run), run.clock, Pace(patience_s=patience))
        with Interrupts() as interrupts:
            return await follower.run(interrupts)

    session_end.finish(run, with_client(run, follow))


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
