"""A workflow that carries a secret in every way it can travel, and one that waits for its end."""

from datetime import timedelta

import msgspec
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from holdfast.errors import PointNotFound
from holdfast.model.session import Outcome
from workflows.search_attributes import ended


class Told(msgspec.Struct, frozen=True, kw_only=True):
    secret: str
    fails_in: str = ""


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    secret: str
    step: int


@activity.defn(name="gossip.whisper")
def whisper(request: Told) -> Told:
    """Tell it on."""
    raise AssertionError(request)


@workflow.defn(name="TellSecret")
class TellSecret:
    def __init__(self) -> None:
        self._heard: list[str] = []

    @workflow.run
    async def run(self, told: Told) -> Told:
        workflow.set_current_details(f"told {told.secret}")
        await workflow.wait_condition(lambda: bool(self._heard))
        reply = await workflow.execute_activity(
            whisper,
            told,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=3),
            summary=f"whisper {told.secret}",
        )
        if told.fails_in == "workflow":
            message = f"point p1 is gone: {told.secret}"
            raise PointNotFound(message)
        workflow.upsert_search_attributes(ended(Outcome.SUCCESS, stored_bytes=1))
        return reply

    @workflow.signal
    def hear(self, told: Told) -> None:
        self._heard.append(told.secret)

    @workflow.query
    def heard(self) -> list[str]:
        return self._heard


@activity.defn(name="gossip.listen")
def listen(request: Told) -> Told:
    """Listen until asked to stop."""
    raise AssertionError(request)


@workflow.defn(name="Listen")
class Listen:
    @workflow.run
    async def run(self, told: Told) -> Told:
        return await workflow.execute_activity(
            listen,
            told,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=1),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)),
        )
