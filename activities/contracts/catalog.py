"""Writing down what happened; served by the control role."""

from datetime import datetime

import msgspec
from temporalio import activity

from holdfast.model.ids import RepositoryName, SessionId
from holdfast.model.points import PointHealth, PointSummary
from holdfast.model.session import Session, Task


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The entry is in the catalog."""


class RecordPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A finished point."""

    repository: RepositoryName
    session_id: SessionId
    point: PointSummary
    stored_bytes: int = 0
    """Added to the repository by the point."""
    completed: datetime | None = None
    """When the point was finished; None takes the moment of its snapshot."""


class RecordHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How points stand that were found damaged, now or before."""

    repository: RepositoryName
    points: tuple[PointHealth, ...]


@activity.defn(name="catalog.record_health")
def record_health(request: RecordHealth) -> Recorded:
    """Write how points stand; those that the catalog does not know are passed over. Idempotent."""
    raise AssertionError(request)


@activity.defn(name="catalog.begin_session")
def begin_session(request: Session) -> Recorded:
    """Write a session that starts; idempotent."""
    raise AssertionError(request)


@activity.defn(name="catalog.record_task")
def record_task(request: Task) -> Recorded:
    """Write how a task stands; idempotent."""
    raise AssertionError(request)


@activity.defn(name="catalog.record_point")
def record_point(request: RecordPoint) -> Recorded:
    """Write a finished point; idempotent."""
    raise AssertionError(request)


@activity.defn(name="catalog.finish_session")
def finish_session(request: Session) -> Recorded:
    """Write how a session ended; idempotent, and never turns an ended session back."""
    raise AssertionError(request)
