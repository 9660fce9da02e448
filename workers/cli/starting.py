"""Starts a session and follows it, or leaves it to itself."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from holdfast.errors import ChainBusy, PassphraseWrong, ServerUnavailable
from holdfast.model.ids import CredentialName, RepositoryName, SessionId
from workers.cli import session_end
from workers.cli.failure import CommandFailed
from workers.cli.following import PATIENCE_S, Followed, Follower, Interrupts, Pace
from workers.cli.invocation import Invocation, error_document
from workers.cli.progress import display_for
from workers.cli.starts import Start, credentials_of
from workers.temporal import connect
from workflows.messages import SessionResult

_TOKEN_BYTES = 3
_FOLLOW = "Following"
_Answer = TypeVar("_Answer")

DetachOption = Annotated[
    bool, typer.Option("--detach", "-d", help="Start and return the ids at once.", rich_help_panel=_FOLLOW)
]
PatienceOption = Annotated[
    float,
    typer.Option(
        "--patience",
        min=0,
        metavar="SECONDS",
        help="How long to wait for a Temporal server that is away.",
        rich_help_panel=_FOLLOW,
    ),
]
PATIENCE_DEFAULT = PATIENCE_S


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session to be started."""

    session_id: SessionId
    start: Start
    if_stopped: str
    """What becomes of the session when it is asked to stop."""


def new_session_id(run: Invocation) -> SessionId:
    """Return an id for a session that is about to be started; ids sort by time."""
    return SessionId(f"{run.clock.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(_TOKEN_BYTES)}")


def run_session(run: Invocation, new: NewSession, *, detach: bool, patience_s: float) -> None:
    """Start a session and show how it ended; with ``detach`` show its ids at once.

    Raises `ChainBusy` when the same is running already, and `CommandFailed` when the session did not succeed.
    """
    run_sessions(run, [new], detach=detach, patience_s=patience_s)


def run_sessions(run: Invocation, news: Sequence[NewSession], *, detach: bool, patience_s: float) -> None:
    """Start sessions, all before the first is followed, and show how they ended; with ``detach`` show their ids.

    Raises `ChainBusy` when one of them is running already, and `CommandFailed` when one did not succeed.
    """

    async def begin_and_follow(client: Client) -> list[SessionResult]:
        with Interrupts() as interrupts:
            handles = []
            for new in news:
                handles.append(await start_session(client, new))
                run.say(f"session {new.session_id} started ({handles[-1].id})")
            if detach:
                _show_ids(run, news, handles)
                return []
            results = []
            for new, handle in zip(news, handles, strict=True):
                followed = Followed(
                    workflow_id=handle.id, run_id=handle.first_execution_run_id, if_stopped=new.if_stopped
                )
                follower = Follower(client, followed, display_for(run), run.clock, Pace(patience_s=patience_s))
                results.append(await follower.run(interrupts))
            return results

    session_end.finish_all(run, with_client(run, begin_and_follow))


def _show_ids(run: Invocation, news: Sequence[NewSession], handles: Sequence[WorkflowHandle[Any, Any]]) -> None:
    ids = [
        {"session_id": new.session_id, "workflow_id": handle.id, "run_id": handle.first_execution_run_id}
        for new, handle in zip(news, handles, strict=True)
    ]
    said = [f"session {one['session_id']}, workflow {one['workflow_id']}" for one in ids]
    run.show(ids[0] if len(ids) == 1 else {"sessions": ids}, *said)


def with_client(run: Invocation, work: Callable[[Client], Coroutine[Any, Any, _Answer]]) -> _Answer:
    """Return what ``work`` returns for a client of the configured server. Raises `ServerUnavailable`."""

    async def connected() -> _Answer:
        try:
            return await work(await connect(run.settings.temporal))
        except RPCError as error:
            address = run.settings.temporal.address
            raise ServerUnavailable(f"the Temporal server at {address} refused: {error.message}") from error

    return asyncio.run(connected())


def credential_for(run: Invocation, repository: str, named: str | None) -> CredentialName | None:
    """Return the credential of a request: the one that was named, else the one all jobs of the repository share.

    An empty name means none.
    """
    if named is not None:
        return CredentialName(named) if named else None
    shared = {job.credential for job in run.settings.jobs if job.repository == repository}
    return shared.pop() if len(shared) == 1 else None


@contextmanager
def hinting_at_credential(run: Invocation, repository: RepositoryName, named: str | None) -> Iterator[None]:
    """Let a session that failed for its passphrase hint at the option, where no credential could be chosen for it."""
    try:
        yield
    except CommandFailed as failed:
        known = sorted(credentials_of(run.settings, repository))
        is_unclear = named is None and credential_for(run, repository, None) is None
        if isinstance(failed.error, PassphraseWrong) and is_unclear and known:
            failed.error.hint = f"Name the credential of the point with `--credential NAME`: {', '.join(known)}."
            failed.document |= error_document(failed.error)
        raise


async def start_session(client: Client, new: NewSession) -> WorkflowHandle[Any, Any]:
    """Start a session. Raises `ChainBusy` when the same is running already."""
    start = new.start
    try:
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            start.workflow,
            start.request,
            id=start.workflow_id,
            task_queue=start.task_queue,
            search_attributes=start.search_attributes,
            static_summary=start.summary,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
    except WorkflowAlreadyStartedError as error:
        hint = f"Watch it with `holdfast watch {start.workflow_id}`."
        raise ChainBusy(f"{start.workflow_id} is running already", hint=hint) from error
    return handle
