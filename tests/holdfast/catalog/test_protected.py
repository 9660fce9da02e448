"""Machines of a job: those it made points of, and when anybody last tried them."""

from datetime import timedelta

import msgspec

from holdfast.catalog.database import Catalog
from holdfast.model.ids import ChainId, JobName, PointId, RepositoryName, SessionId
from holdfast.model.session import SessionKind
from tests.holdfast.catalog.samples import POINT, SESSION, START, TASK

CELLAR, NIGHTLY = SESSION.repository, SESSION.job
LATER = START + timedelta(days=3)


def made(catalog: Catalog) -> None:
    """A session of the job, with one point."""
    catalog.sessions.begin(SESSION)
    catalog.points.record(
        msgspec.structs.replace(POINT, session_id=SESSION.session_id, machine_id=TASK.machine_id, machine_name="files")
    )


def test_a_machine_with_points_is_of_the_job_that_made_them(catalog: Catalog) -> None:
    made(catalog)
    [machine] = catalog.protected.machines(CELLAR, NIGHTLY)
    assert (machine.machine_id, machine.machine_name, machine.last_tried) == (TASK.machine_id, "files", START)
    assert catalog.protected.machines(CELLAR, JobName("weekly")) == ()
    assert catalog.protected.machines(RepositoryName("attic"), NIGHTLY) == ()


def test_a_session_that_failed_or_was_of_another_job_tried_it_too(catalog: Catalog) -> None:
    made(catalog)
    other = msgspec.structs.replace(SESSION, session_id=SessionId("s2"), job=JobName("weekly"), started=LATER)
    catalog.sessions.begin(other)
    catalog.sessions.record_task(msgspec.structs.replace(TASK, session_id=other.session_id))
    [machine] = catalog.protected.machines(CELLAR, NIGHTLY)
    assert machine.last_tried == LATER


def test_an_archive_is_of_no_job_and_no_try_of_one(catalog: Catalog) -> None:
    made(catalog)
    other = msgspec.structs.replace(
        SESSION, session_id=SessionId("s2"), kind=SessionKind.ARCHIVE, job=JobName("archive"), started=LATER
    )
    catalog.sessions.begin(other)
    catalog.sessions.record_task(msgspec.structs.replace(TASK, session_id=other.session_id))
    archive = msgspec.structs.replace(
        POINT,
        session_id=other.session_id,
        point_id=PointId("ab" * 16),
        chain="machines/files-1a2b3c4d/archive-5e6f7a8b",
        chain_id=ChainId("cd" * 16),
        machine_id=TASK.machine_id,
        machine_name="files",
    )
    catalog.points.record(archive)
    elsewhere = "machines/archive-server-1a2b3c4d/000001-5e6f7a8b"
    catalog.points.record(
        msgspec.structs.replace(archive, point_id=PointId("cd" * 16), chain=elsewhere, chain_id=ChainId("ef" * 16))
    )
    [machine] = catalog.protected.machines(CELLAR, NIGHTLY)
    assert machine.last_tried == START
    [archived] = catalog.protected.archived(CELLAR)
    assert (archived.machine_id, archived.last_tried) == (TASK.machine_id, POINT.created)
    assert catalog.protected.archived(RepositoryName("attic")) == ()


def test_a_restore_is_no_try(catalog: Catalog) -> None:
    made(catalog)
    other = msgspec.structs.replace(SESSION, session_id=SessionId("s2"), kind=SessionKind.RESTORE, started=LATER)
    catalog.sessions.begin(other)
    catalog.sessions.record_task(msgspec.structs.replace(TASK, session_id=other.session_id))
    [machine] = catalog.protected.machines(CELLAR, NIGHTLY)
    assert machine.last_tried == START


def test_a_machine_whose_points_are_all_gone_is_of_no_job(catalog: Catalog) -> None:
    made(catalog)
    catalog.points.forget(CELLAR, [POINT.point_id])
    assert catalog.protected.machines(CELLAR, NIGHTLY) == ()
