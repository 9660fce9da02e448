"""Follows a running session to its end, through interrupts and through a server that is away.

The session runs in the cluster and not here: leaving, by whatever way, never harms it.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities.boundary import error_from_failure
from holdfast.clock import Clock
from holdfast.errors import HoldfastError, OperationCancelled, ServerUnavailable, SessionFailed, SessionNotFound
from workers.cli import wording
from workers.cli.progress import Display
from workers.cli.sights import RPC_TIMEOUT, Watcher
from workflows.failures import result_in

PATIENCE_S = 600.0
Result = TypeVar("Result")
"""What a workflow returns: a `SessionResult`, or that of upkeep by hand."""
_STOP_INTERVAL_S = 1.0

_AWAY = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Answers of a server, or of what stands before it, that may be better a moment later."""


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How often a session is looked at, and how long for."""

    look_interval_s: float = 1.0
    look_timeout_s: float = 6.0
    """When a look counts as unanswered; the client itself would try for longer before it says anything."""
    patience_s: float = PATIENCE_S
    """How long a server that is away is waited for."""


class Followed(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """The session to follow."""

    workflow_id: str
    result_type: type[Result]
    run_id: str | None = None
    if_stopped: str
    """What becomes of the session when it is asked to stop, as a sentence."""


class Interrupts:
    """The terminal's interrupts while the block runs: counted, and handed to whoever listens."""

    def __init__(self) -> None:
        self.count = 0
        self._listener: Callable[[int], None] | None = None

    def listen(self, listener: Callable[[int], None]) -> None:
        """Hand ``listener`` the count at every interrupt, at once when there has been one already."""
        self._listener = listener
        if self.count:
            listener(self.count)

    def interrupt(self) -> None:
        """Take one interrupt."""
        self.count += 1
        if self._listener is not None:
            self._listener(self.count)

    def __enter__(self) -> Self:
        """Take the terminal's interrupt from now on. Needs a running loop."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal's interrupt back."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


class Follower(Generic[Result]):
    """Follows one session; `run` returns its result."""

    def __init__(
        self,
        client: Client,
        followed: Followed[Result],
        display: Display,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        self._handle: WorkflowHandle[object, Result] = client.get_workflow_handle(
            followed.workflow_id, run_id=followed.run_id, result_type=followed.result_type
        )
        self._watcher = Watcher(client, followed.workflow_id, followed.run_id)
        self._followed = followed
        self._display = display
        self._clock = clock
        self._pace = pace if pace is not None else Pace()
        self._leave = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def run(self, interrupts: Interrupts) -> Result:
        """Return the result of the session, also of one that failed.

        The first interrupt asks the session to stop and goes on following, the second raises `OperationCancelled` at
        once. Raises `OperationCancelled` for a session that was cancelled, the error of one that broke down without a
        result, and `ServerUnavailable` when the server stayed away too long.
        """
        with self._display:
            interrupts.listen(self._interrupted)
            watching = asyncio.ensure_future(self._watch())
            leaving = asyncio.ensure_future(self._leave.wait())
            try:
                await asyncio.wait([watching, leaving], return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    return watching.result()
                raise self._left()
            finally:
                await _ended(watching, leaving, self._stopping)
                await self._watcher.close()

    def _interrupted(self, count: int) -> None:
        if count > 1:
            self._leave.set()
        else:
            self._stopping = asyncio.ensure_future(self._stop())

    def _left(self) -> OperationCancelled:
        is_asked = self._stopping is not None and self._stopping.done()
        fate = "it goes on being cancelled in the background" if is_asked else "it was not reached and goes on"
        hint = f"Follow it again with `holdfast watch {self._followed.workflow_id}`."
        return OperationCancelled(f"left session {self._followed.workflow_id}; {fate}", hint=hint)

    async def _watch(self) -> Result:
        away_since_s: float | None = None
        while True:
            try:
                async with asyncio.timeout(self._pace.look_timeout_s):
                    sight = await self._watcher.look()
                self._display.update(sight)
                if sight.is_closed:
                    return await self._result()
            except (RPCError, TimeoutError) as error:
                away_since_s = self._away(error, away_since_s)
            else:
                if away_since_s is not None:
                    self._display.tell("the Temporal server is back")
                away_since_s = None
            await asyncio.sleep(self._pace.look_interval_s)

    def _away(self, error: RPCError | TimeoutError, since_s: float | None) -> float:
        """Return since when the server is away. Raises when it does not help to wait any longer."""
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            raise SessionNotFound(f"Temporal knows no workflow {self._followed.workflow_id}") from error
        if isinstance(error, RPCError) and error.status not in _AWAY:
            raise ServerUnavailable(f"Temporal refuses to tell of the session: {error.message}") from error
        now_s = self._clock.monotonic_s()
        away_s = 0.0 if since_s is None else now_s - since_s
        if away_s >= self._pace.patience_s:
            raise ServerUnavailable(
                f"the Temporal server has been away for {wording.duration(away_s)}",
                hint=f"The session continues when it is back; `holdfast watch {self._followed.workflow_id}` shows it.",
            ) from error
        if since_s is None:
            reason = error.message if isinstance(error, RPCError) else "nothing came back"
            self._display.tell(
                f"the Temporal server does not answer ({reason}); the session goes on where its workers are, "
                f"trying again for {wording.duration(self._pace.patience_s)}"
            )
        return now_s - away_s

    async def _result(self) -> Result:
        try:
            return await self._handle.result(rpc_timeout=RPC_TIMEOUT)
        except WorkflowFailureError as error:
            result = result_in(error, self._followed.result_type)
            if result is not None:
                return result
            ours = error_from_failure(error)
            if isinstance(ours, OperationCancelled):
                raise OperationCancelled(f"session {self._followed.workflow_id}: {ours.message}") from error
            if ours is not None:
                raise ours from error
            raise SessionFailed(f"session {self._followed.workflow_id} failed: {error.cause}") from error

    async def _stop(self) -> None:
        self._display.tell(f"stopping the session: {self._followed.if_stopped}")
        self._display.tell("interrupt again to leave at once; the session then goes on being cancelled by itself")
        while True:
            try:
                await self._handle.cancel(rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status not in _AWAY:
                    return  # it has ended by itself, which the next look shows
            else:
                return
            await asyncio.sleep(_STOP_INTERVAL_S)


async def _ended(*tasks: "asyncio.Future[Any] | None") -> None:
    """Cancel what still runs and wait for it; results and errors have been taken already."""
    for task in tasks:
        if task is not None and not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, HoldfastError, RPCError):
                await task
