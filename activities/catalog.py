"""Writing down what happened."""

from contextlib import suppress

from activities.binding import implements
from activities.contracts import catalog
from activities.openers import CatalogOpener
from activities.pulse import Pulse
from holdfast import measures
from holdfast.catalog.points import PointKind, PointState, RestorePointRecord
from holdfast.clock import Clock
from holdfast.errors import PointNotFound
from holdfast.model.ids import PointId
from holdfast.model.session import Session, Task


class CatalogActivities:
    """Serves `activities.contracts.catalog`."""

    def __init__(self, catalog_opener: CatalogOpener, clock: Clock) -> None:
        self._open = catalog_opener
        self._clock = clock

    @implements(catalog.begin_session)
    def begin_session(self, request: Session) -> catalog.Recorded:
        """Write a session that starts."""
        with Pulse(self._clock):
            self._open().sessions.begin(request)
        return catalog.Recorded()

    @implements(catalog.record_task)
    def record_task(self, request: Task) -> catalog.Recorded:
        """Write how a task stands."""
        with Pulse(self._clock):
            self._open().sessions.record_task(request)
        return catalog.Recorded()

    @implements(catalog.record_point)
    def record_point(self, request: catalog.RecordPoint) -> catalog.Recorded:
        """Write a finished point."""
        with Pulse(self._clock):
            self._open().points.record(record_of(request))
        return catalog.Recorded()

    @implements(catalog.record_health)
    def record_health(self, request: catalog.RecordHealth) -> catalog.Recorded:
        """Write how points stand that were found damaged, now or before."""
        with Pulse(self._clock):
            for point in request.points:
                # One that was made by another installation, or before the catalog was lost.
                with suppress(PointNotFound):
                    state = PointState(point.state.value)
                    self._open().points.set_state(request.repository, PointId(point.point_id), state)
        return catalog.Recorded()

    @implements(catalog.finish_session)
    def finish_session(self, request: Session) -> catalog.Recorded:
        """Write how a session ended."""
        with Pulse(self._clock):
            self._open().sessions.finish(request)
        _measure(request)
        return catalog.Recorded()


def _measure(session: Session) -> None:
    """Count a session that ended; here and not in its workflow, which is replayed."""
    labels = {"kind": session.kind.value, "job": str(session.job), "outcome": session.outcome.value}
    measures.SESSIONS.record(1, **labels)
    if session.ended is not None:
        measures.SESSION_SECONDS.record((session.ended - session.started).total_seconds(), **labels)
        measures.SESSION_END.record(session.ended.timestamp(), **labels)


def record_of(request: catalog.RecordPoint) -> RestorePointRecord:
    """Return what the catalog keeps of a finished point."""
    point = request.point
    return RestorePointRecord(
        repository=request.repository,
        chain=point.chain,
        chain_id=point.chain_id,
        number=point.number,
        point_id=point.point_id,
        file_id=point.file_id,
        file_name=point.file,
        generation=point.generation,
        root=point.root,
        machine_id=point.machine_id,
        machine_name=point.machine_name,
        kind=PointKind(point.kind),
        created=point.created,
        completed=request.completed if request.completed is not None else point.created,
        size_bytes=point.size_bytes,
        stored_bytes=request.stored_bytes,
        session_id=request.session_id,
    )
