"""Which machines a job has restore points of, and when each was last tried."""

from collections.abc import Mapping
from datetime import datetime

import msgspec
from sqlalchemy import func, select

from holdfast.catalog.connection import Database
from holdfast.catalog.schema import restore_points, sessions, tasks
from holdfast.model.archives import ARCHIVE_PREFIX, is_archive
from holdfast.model.ids import JobName, MachineId, RepositoryName
from holdfast.model.session import SessionKind


class TriedMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that has points, of a job, in a repository."""

    machine_id: MachineId
    machine_name: str
    """As the newest point has it."""
    last_tried: datetime
    """When the last session began that tried to back it up to the repository, of whatever job."""


class ProtectedTable:
    """The part of a catalog that knows what jobs protect."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def machines(self, repository: RepositoryName, job: JobName) -> tuple[TriedMachine, ...]:
        """Return the machines of which sessions of a job made points that are still in a repository, by name."""
        points, runs = restore_points.c, sessions.c
        made = (
            select(points.machine_id, points.machine_name, points.chain, runs.started)
            .join(sessions, points.session_id == runs.session_id)
            .where(points.repository == repository, runs.job == job)
            .order_by(points.created, points.number)
        )
        tried = (
            select(tasks.c.machine_id, func.max(runs.started).label("started"))
            .join(sessions, tasks.c.session_id == runs.session_id)
            .where(runs.repository == repository, runs.kind == SessionKind.BACKUP)
            .group_by(tasks.c.machine_id)
        )
        found: dict[str, TriedMachine] = {}
        with self._database.reading() as connection:
            last = {row.machine_id: row.started for row in connection.execute(tried)}
            for row in connection.execute(made):
                if is_archive(row.chain):
                    continue
                moments = [moment for moment in (row.started, last.get(row.machine_id)) if moment is not None]
                found[row.machine_id] = TriedMachine(
                    machine_id=MachineId(row.machine_id), machine_name=row.machine_name, last_tried=max(moments)
                )
        return _by_name(found)

    def archived(self, repository: RepositoryName) -> tuple[TriedMachine, ...]:
        """Return the machines of which archives are in a repository, by name; tried when the newest was made."""
        points = restore_points.c
        query = (
            select(points.machine_id, points.machine_name, points.chain, points.created)
            .where(points.repository == repository, points.chain.contains(ARCHIVE_PREFIX))
            .order_by(points.created, points.number)
        )
        found: dict[str, TriedMachine] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                if is_archive(row.chain):  # and not that of a machine with such a name
                    found[row.machine_id] = TriedMachine(
                        machine_id=MachineId(row.machine_id), machine_name=row.machine_name, last_tried=row.created
                    )
        return _by_name(found)


def _by_name(found: Mapping[str, TriedMachine]) -> tuple[TriedMachine, ...]:
    return tuple(sorted(found.values(), key=lambda machine: (machine.machine_name, machine.machine_id)))
