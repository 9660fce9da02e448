"""Values for tests of the catalog, and strategies that draw any of them."""

import time
from datetime import UTC, datetime, timedelta, timezone

import msgspec
from hypothesis import strategies as st

from holdfast.catalog.points import PointKind, PointState, RestorePointRecord
from holdfast.model.ids import (
    ChainId,
    DiskKey,
    FileId,
    JobName,
    MachineId,
    PointId,
    RepositoryName,
    SessionId,
)
from holdfast.model.session import Figures, Outcome, Problem, Session, SessionKind, Task

START = datetime(2026, 3, 1, 22, 0, tzinfo=UTC)


class TickingClock:
    """Each look at the clock is a second later than the one before."""

    def __init__(self) -> None:
        self.seconds = 0

    def now(self) -> datetime:
        self.seconds += 1
        return START + timedelta(seconds=self.seconds)

    def monotonic_s(self) -> float:
        return time.monotonic()


SESSION = Session(
    session_id=SessionId("session-1"),
    kind=SessionKind.BACKUP,
    job=JobName("nightly"),
    repository=RepositoryName("cellar"),
    outcome=Outcome.RUNNING,
    started=START,
    workflow_id="job-nightly",
)
ENDED = msgspec.structs.replace(
    SESSION,
    outcome=Outcome.WARNING,
    ended=START + timedelta(minutes=5),
    figures=Figures(size_bytes=1 << 40, read_bytes=1 << 30, duration_s=300.5),
)
TASK = Task(
    session_id=SessionId("session-1"),
    machine_id=MachineId("machine-7"),
    machine_name="files",
    disk=DiskKey("disk-0"),
    outcome=Outcome.RUNNING,
)
POINT = RestorePointRecord(
    repository=RepositoryName("cellar"),
    chain="files-1a2b3c4d",
    chain_id=ChainId("c" * 32),
    number=3,
    point_id=PointId(f"{3:032x}"),
    file_id=FileId("f" * 32),
    file_name="files-3.hfi",
    generation=5,
    root="ab" * 32,
    machine_id=MachineId("machine-7"),
    machine_name="files",
    kind=PointKind.INCREMENT,
    created=START,
    completed=START + timedelta(minutes=4),
    size_bytes=1 << 40,
    stored_bytes=1 << 20,
    session_id=SessionId("session-1"),
)


def point(number: int, **changes: object) -> RestorePointRecord:
    """Return the point of this number in the chain of `POINT`, a day after the one before."""
    return msgspec.structs.replace(
        POINT,
        number=number,
        point_id=f"{number:032x}",
        file_id=f"{number + 100:032x}",
        created=START + timedelta(days=number),
        **changes,
    )


# What the databases refuse is tested by itself: NUL and surrogates are written as escapes.
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)
counts = st.integers(0, 2**63 - 1)
zones = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours, minutes=30)))
moments = st.datetimes(datetime(1970, 1, 2), datetime(9990, 1, 1), timezones=zones)  # noqa: DTZ001 - the zone is drawn
figures = st.builds(
    Figures,
    size_bytes=counts,
    processed_bytes=counts,
    read_bytes=counts,
    transferred_bytes=counts,
    stored_bytes=counts,
    resent_bytes=counts,
    duration_s=st.floats(0, 1e12),
)
problems = st.none() | st.builds(Problem, code=words, message=words, hint=words)
sessions = st.builds(
    Session,
    session_id=words,
    kind=st.sampled_from(SessionKind),
    job=words,
    repository=words,
    outcome=st.sampled_from(sorted(set(Outcome) - {Outcome.RUNNING})),
    started=moments,
    ended=st.none() | moments,
    workflow_id=words,
    figures=figures,
    problem=problems,
    notes=st.lists(words, max_size=4, unique=True).map(tuple),
)
tasks = st.builds(
    Task,
    session_id=words,
    machine_id=words,
    machine_name=words,
    disk=words,
    outcome=st.sampled_from(Outcome),
    detail=words,
    figures=figures,
    problem=problems,
)
points = st.builds(
    RestorePointRecord,
    repository=words,
    chain=words,
    chain_id=words,
    number=counts,
    point_id=words,
    file_id=words,
    file_name=words,
    generation=counts,
    root=words,
    machine_id=words,
    machine_name=words,
    kind=st.sampled_from(PointKind),
    created=moments,
    completed=moments,
    size_bytes=counts,
    stored_bytes=counts,
    session_id=words,
    state=st.sampled_from(PointState),
)
