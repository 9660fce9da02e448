"""Starts sessions and keeps their histories; used by `scripts.record_histories`."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from holdfast.model.health import BrokenChain
from holdfast.model.ids import SessionId
from holdfast.model.session import Outcome
from scripts.history_parts import gate_at, neutral
from workers.cli.starts import Start
from workflows.broken_chain import DECIDE
from workflows.messages import SessionProgress

_DEADLINE_S: Final = 60
_LOOK_INTERVAL_S: Final = 0.05
_BEATS: Final = 2
"""Different times of reports seen since the cancellation: the answer to the second told the worker of it."""


class Recorder:
    """Runs sessions and writes down their histories."""

    def __init__(self, client: Client, root: Path, folder: Path) -> None:
        self._client = client
        self._root = root
        self._folder = folder
        self._sessions = 0

    def session_id(self) -> SessionId:
        """Return the id of the next session."""
        self._sessions += 1
        return SessionId(f"s{self._sessions:04}")

    async def start(self, start: Start) -> WorkflowHandle[Any, Any]:
        """Start a session."""
        return await self._client.start_workflow(
            start.workflow,
            start.request,
            id=start.workflow_id,
            task_queue=start.task_queue,
            search_attributes=start.search_attributes,
            static_summary=start.summary,
        )

    async def record(self, state: str, start: Start, expected: Outcome) -> None:
        """Run a session to its end and keep its histories as ``state``."""
        await self.keep(state, await self.start(start), expected)

    async def record_cancelled(self, state: str, start: Start, activity: str, point: str) -> None:
        """Cancel a session while ``activity`` stands still at the fault point ``point``, and keep its histories."""
        with gate_at(point) as gate:
            handle = await self.start(start)
            busy = await self._who_runs(handle, activity)
            await asyncio.wait_for(asyncio.to_thread(gate.reached.wait), _DEADLINE_S)
            await handle.cancel()
            await self._until_told(busy, activity)
        await self.keep(state, handle, Outcome.CANCELLED)

    async def record_decided(self, state: str, start: Start, decision: BrokenChain) -> None:
        """Decide about the damaged chain of a session's only machine once it asks, and keep its histories."""
        handle = await self.start(start)
        await (await self._who_asks(handle)).signal(DECIDE, decision)
        await self.keep(state, handle, Outcome.WARNING)

    async def record_unserved(self, state: str, start: Start, activity: str) -> None:
        """Cancel a session whose ``activity`` nobody serves, and keep its histories."""
        handle = await self.start(start)
        await self._who_runs(handle, activity)
        await handle.cancel()
        await self.keep(state, handle, Outcome.CANCELLED)

    async def keep(self, state: str, handle: WorkflowHandle[Any, Any], expected: Outcome) -> None:
        """Wait for a session and write the histories of its workflow and of its machines' workflows."""
        try:
            ended = (await handle.result()).session.outcome
        except WorkflowFailureError as failure:
            is_cancelled = type(failure.cause).__name__ == "CancelledError"
            ended = Outcome.CANCELLED if is_cancelled else Outcome.FAILED
        if ended is not expected:
            message = f"{state} ended with {ended}, not with {expected}"
            raise AssertionError(message)
        await self._write(state, handle)
        progress = await handle.query("progress", result_type=SessionProgress)
        for child in progress.children:
            machine = child.rpartition("/")[2].rpartition("-")[0]
            await self._write(f"{state}-{machine}", self._client.get_workflow_handle(child))

    async def record_last(self, state: str, workflow_id: str) -> None:
        """Wait until a workflow that others share ends by itself, and keep its history as ``state``."""
        handle = self._client.get_workflow_handle(workflow_id)
        await handle.result()
        await self._write(state, handle)

    async def _write(self, state: str, handle: WorkflowHandle[Any, Any]) -> None:
        description = await handle.describe()
        path = self._folder / f"{description.workflow_type}-{state}.json"
        if path.exists():
            print(f"kept    {path.name}", flush=True)
            return
        document = json.loads((await handle.fetch_history()).to_json())
        text = json.dumps(neutral(document, str(self._root)), indent=1, sort_keys=True, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        print(f"written {path.name}", flush=True)

    async def _who_runs(self, handle: WorkflowHandle[Any, Any], activity: str) -> WorkflowHandle[Any, Any]:
        """Return the workflow, the session's or that of its machine, once ``activity`` is among its pending ones."""
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                progress = await handle.query("progress", result_type=SessionProgress)
                known = [handle, *(self._client.get_workflow_handle(child) for child in progress.children)]
                for candidate in known:
                    if await _pending(candidate, activity) is not None:
                        return candidate
                await asyncio.sleep(_LOOK_INTERVAL_S)

    async def _who_asks(self, handle: WorkflowHandle[Any, Any]) -> WorkflowHandle[Any, Any]:
        """Return the workflow of a session's machine once it waits for a decision."""
        async with asyncio.timeout(_DEADLINE_S):
            while True:
                for name in (await handle.query("progress", result_type=SessionProgress)).children:
                    child = self._client.get_workflow_handle(name)
                    if "decision" in (await child.query("progress", result_type=SessionProgress)).phase:
                        return child
                await asyncio.sleep(_LOOK_INTERVAL_S)

    async def _until_told(self, handle: WorkflowHandle[Any, Any], activity: str) -> None:
        """Return once the activity has reported so often that its worker knows of the cancellation."""
        beats: set[tuple[int, int]] = set()
        async with asyncio.timeout(_DEADLINE_S):
            while len(beats) < _BEATS:
                pending = await _pending(handle, activity)
                if pending is None:
                    return
                if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
                    beats.add((pending.last_heartbeat_time.seconds, pending.last_heartbeat_time.nanos))
                await asyncio.sleep(_LOOK_INTERVAL_S)


async def _pending(handle: WorkflowHandle[Any, Any], activity: str) -> Any:  # noqa: ANN401 - a message of Temporal
    """Return what Temporal knows of an activity that has not ended, None when there is none."""
    found = (await handle.describe()).raw_description.pending_activities
    return next((pending for pending in found if pending.activity_type.name == activity), None)
