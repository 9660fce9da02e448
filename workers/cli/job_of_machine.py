"""Which job of the configuration a machine belongs to: the one that made the newest of its points."""

from collections.abc import Iterable

from holdfast.catalog.database import Catalog
from holdfast.catalog.points import RestorePointRecord
from holdfast.errors import SessionNotFound
from holdfast.model.archives import is_archive
from workers.cli.invocation import Invocation
from workers.job_settings import JobSettings


def newest_of_a_job(
    run: Invocation, catalog: Catalog, points: Iterable[RestorePointRecord]
) -> tuple[RestorePointRecord, JobSettings] | None:
    """Return the first of some points that a job of the configuration made, and the job; None when none did.

    Archives belong to no job.
    """
    configured = {job.name: job for job in run.settings.jobs}
    for point in points:
        if is_archive(point.chain):
            continue
        try:
            job = configured.get(catalog.sessions.get(point.session_id).job)
        except SessionNotFound:  # of another installation, or of a catalog that was lost
            continue
        if job is not None and job.repository == point.repository:
            return point, job
    return None
