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

from activities.runs import running
from holdfast.errors import ChainBusy, HoldfastError, PassphraseWrong, ServerUnavailable
from holdfast.model.ids import CredentialName, RepositoryName, SessionId
from workers.cli import session_end
from workers.cli.failure import CommandFailed
from workers.cli.following import PATIENCE_S, Followed, Follower, Interrupts, Pace, Result
from workers.cli.invocation import Invocation, error_document
from workers.cli.progress import display_for
from workers.cli.session_end import SessionIds, Unfollowed
from workers.cli.starts import Start, credentials_of
from workers.temporal import connect
from workflows.messages import MachineUpkeepResult, SessionResult

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

    One that is refused or cannot be followed keeps no other from being started, followed and shown. Raises `ChainBusy`
    when the only one is running already, and `CommandFailed` when one did not succeed.
    """

    async def begin_and_follow(client: Client) -> Sequence[SessionResult | SessionIds | Unfollowed]:
        with Interrupts() as interrupts:
            begun = [await _begun(run, client, new) for new in news]
            if detach:
                return begun
            guide = _Guide(run, client, interrupts, patience_s)
            return [await guide.followed(new, one, SessionResult) for new, one in zip(news, begun, strict=True)]

    session_end.finish_all(run, with_client(run, begin_and_follow))


def run_upkeep(run: Invocation, new: NewSession, *, detach: bool, patience_s: float) -> None:
    """Start the upkeep of one machine's chains and show what it did; with ``detach`` show its ids at once.

    Raises `ChainBusy` when the machine is being looked after already, and `CommandFailed` when what was asked for
    failed.
    """

    async def begin_and_follow(client: Client) -> MachineUpkeepResult | SessionIds | Unfollowed:
        with Interrupts() as interrupts:
            begun = await _begun(run, client, new)
            if detach:
                return begun
            return await _Guide(run, client, interrupts, patience_s).followed(new, begun, MachineUpkeepResult)

    ended = with_client(run, begin_and_follow)
    if isinstance(ended, MachineUpkeepResult):
        session_end.finish_upkeep(run, ended)
    else:
        session_end.finish_all(run, [ended])


class _Guide:
    """Follows sessions one after the other, with one count of interrupts and one patience for all of them."""

    def __init__(self, run: Invocation, client: Client, interrupts: Interrupts, patience_s: float) -> None:
        self._run = run
        self._client = client
        self._interrupts = interrupts
        self._patience_s = patience_s

    async def followed(
        self, new: NewSession, begun: SessionIds | Unfollowed, result_type: type[Result]
    ) -> Result | Unfollowed:
        """Return the result of a session, or what kept it from being known."""
        if isinstance(begun, Unfollowed):
            return begun
        followed = Followed(
            workflow_id=begun.workflow_id, run_id=begun.run_id, result_type=result_type, if_stopped=new.if_stopped
        )
        pace = Pace(patience_s=self._patience_s)
        follower = Follower(self._client, followed, display_for(self._run), self._run.clock, pace)
        try:
            return await follower.run(self._interrupts)
        except HoldfastError as error:
            if isinstance(error, ServerUnavailable):
                self._patience_s = 0.0  # it was waited for long enough; a session behind this one may still be seen
            return Unfollowed(ids=begun, error=error)


async def _begun(run: Invocation, client: Client, new: NewSession) -> SessionIds | Unfollowed:
    """Start a session; return how it is found again, or what kept it from being started."""
    ids = SessionIds(session_id=new.session_id, workflow_id=new.start.workflow_id)
    try:
        handle = await start_session(client, new)
    except HoldfastError as error:
        return Unfollowed(ids=ids, error=error)
    except RPCError as error:
        return Unfollowed(ids=ids, error=_refused(run, error))
    run.say(f"session {new.session_id} started ({handle.id})")
    return msgspec.structs.replace(ids, run_id=handle.first_execution_run_id)


def with_client(run: Invocation, work: Callable[[Client], Coroutine[Any, Any, _Answer]]) -> _Answer:
    """Return what ``work`` returns for a client of the configured server. Raises `ServerUnavailable`."""

    async def connected() -> _Answer:
        try:
            return await work(await connect(run.settings.temporal))
        except RPCError as error:
            raise _refused(run, error) from error

    return asyncio.run(connected())


def _refused(run: Invocation, error: RPCError) -> ServerUnavailable:
    return ServerUnavailable(f"the Temporal server at {run.settings.temporal.address} refused: {error.message}")


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
    for run in await running(client, start.workflow_id):
        raise _busy(run.workflow_id)  # also one that a schedule started, whose id Temporal would not refuse
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
        raise _busy(start.workflow_id) from error
    return handle


def _busy(workflow_id: str) -> ChainBusy:
    return ChainBusy(f"{workflow_id} is running already", hint=f"Watch it with `holdfast watch {workflow_id}`.")
