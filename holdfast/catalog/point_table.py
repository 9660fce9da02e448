"""Restore points known, and the mark of every chain.

The mark is the controller's protection against a repository that was set back: it holds the newest
state of a chain that was ever recorded and only moves forward. A point may move to another file of
its chain (a merge does that); within one file the record of the later commit wins, so a late
repetition of an earlier record changes nothing.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from holdfast.catalog.connection import Database, insert_into
from holdfast.catalog.limits import LIMIT_DEFAULT, check_limit
from holdfast.catalog.points import ChainMark, PointKind, PointState, RestorePointRecord
from holdfast.catalog.rows import mark_of, mark_row, point_of, point_row
from holdfast.catalog.schema import chain_marks, restore_points
from holdfast.clock import Clock
from holdfast.errors import ChainBroken, PointNotFound
from holdfast.model.ids import ChainId, FileId, MachineId, PointId, RepositoryName


class PointTable:
    """The part of a catalog that knows about restore points."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, point: RestorePointRecord) -> None:
        """Add ``point`` or bring it up to date, and move the mark of its chain. May be repeated.

        Raises `ChainBroken` when the chain has another point of this number: the repository was set
        back and went on from an older state.
        """
        with self._database.writing() as connection:
            # First, because it makes other writers of the same chain wait.
            self._advance_mark(connection, point)
            _refuse_second_history(connection, point)
            insert = insert_into(connection, restore_points).values(point_row(point))
            connection.execute(
                insert.on_conflict_do_update(
                    index_elements=["repository", "point_id"],
                    set_=point_row(point),
                    where=or_(
                        restore_points.c.file_id != point.file_id,
                        restore_points.c.generation < point.generation,
                    ),
                )
            )

    def set_state(self, repository: RepositoryName, point_id: PointId, state: PointState) -> None:
        """Record what was found out about a point; raise `PointNotFound`."""
        change = restore_points.update().values(state=state).where(*_is_one_of(repository, [point_id]))
        with self._database.writing() as connection:
            if not connection.execute(change).rowcount:
                raise PointNotFound(f"point {point_id} of repository {repository} is not in the catalog")

    def list(
        self,
        *,
        machine: str | None = None,
        repository: RepositoryName | None = None,
        chain_id: ChainId | None = None,
        limit: int = LIMIT_DEFAULT,
    ) -> tuple[RestorePointRecord, ...]:
        """Return the points that match, newest first; ``machine`` is an id or a name."""
        points = restore_points.c
        conditions: list[ColumnElement[bool]] = []
        if machine is not None:
            conditions.append(or_(points.machine_id == machine, points.machine_name == machine))
        if repository is not None:
            conditions.append(points.repository == repository)
        if chain_id is not None:
            conditions.append(points.chain_id == chain_id)
        query = select(restore_points).where(*conditions).limit(check_limit(limit))
        with self._database.reading() as connection:
            newest_first = (points.created.desc(), points.number.desc(), points.point_id)
            return tuple(map(point_of, connection.execute(query.order_by(*newest_first)).mappings()))

    def newest(self, repository: RepositoryName, chain_id: ChainId) -> RestorePointRecord | None:
        """Return the known point with the highest number of a chain, None when none is known."""
        points = restore_points.c
        query = select(restore_points).where(points.repository == repository, points.chain_id == chain_id)
        with self._database.reading() as connection:
            row = connection.execute(query.order_by(points.number.desc()).limit(1)).mappings().first()
        return None if row is None else point_of(row)

    def mark(self, repository: RepositoryName, chain_id: ChainId) -> ChainMark | None:
        """Return the newest state of a chain that was ever recorded, None if none was."""
        query = select(chain_marks).where(*_is_marked(repository, chain_id))
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else mark_of(row)

    def move(  # noqa: PLR0913 - where a point is now, fact by fact
        self,
        repository: RepositoryName,
        point_id: PointId,
        *,
        file_id: FileId,
        file_name: str,
        generation: int,
        kind: PointKind,
    ) -> bool:
        """Record that a merge brought a point into another file; return whether it was known. May be repeated."""
        places = {"file_id": file_id, "file_name": file_name, "generation": generation, "kind": kind}
        change = restore_points.update().values(places).where(*_is_one_of(repository, [point_id]))
        with self._database.writing() as connection:
            return connection.execute(change).rowcount > 0

    def relocate(
        self,
        repository: RepositoryName,
        chain_id: ChainId,
        *,
        to: RepositoryName,
        chain: str,
        machine: tuple[MachineId, str],
    ) -> int:
        """Record where a chain is now and whose, and return how many points were known. May be repeated.

        ``chain`` is its folder; a chain whose fulls were made here has several, of which only this one is meant.
        """
        points = restore_points.c
        is_in_folder = points.chain.like(f"%/{chain.rpartition('/')[2]}")
        is_meant = (points.repository == repository, points.chain_id == chain_id, is_in_folder)
        place = {"repository": to, "chain": chain, "machine_id": machine[0], "machine_name": machine[1]}
        with self._database.writing() as connection:
            known = [row.point_id for row in connection.execute(select(points.point_id).where(*is_meant))]
            if known and repository != to:
                # Of an earlier stay there.
                connection.execute(restore_points.delete().where(*_is_one_of(to, known)))
            connection.execute(restore_points.update().values(place).where(*is_meant))
            if known and repository != to:
                _move_mark(connection, repository, chain_id, to)
        return len(known)

    def forget(self, repository: RepositoryName, point_ids: Sequence[PointId]) -> int:
        """Drop points that left the repository and return how many were known; marks stay."""
        with self._database.writing() as connection:
            return connection.execute(restore_points.delete().where(*_is_one_of(repository, point_ids))).rowcount

    def forget_chain(self, repository: RepositoryName, chain_id: ChainId) -> int:
        """Drop a chain with its mark and return how many points were known.

        For a chain that was deleted, or one the operator set back on purpose and wants to go on
        with.
        """
        points = restore_points.c
        is_of_chain = (points.repository == repository, points.chain_id == chain_id)
        with self._database.writing() as connection:
            connection.execute(chain_marks.delete().where(*_is_marked(repository, chain_id)))
            return connection.execute(restore_points.delete().where(*is_of_chain)).rowcount

    def _advance_mark(self, connection: Connection, point: RestorePointRecord) -> None:
        mark = ChainMark(
            repository=point.repository,
            chain_id=point.chain_id,
            number=point.number,
            point_id=point.point_id,
            file_id=point.file_id,
            generation=point.generation,
            root=point.root,
            recorded=self._clock.now(),
        )
        marks = chain_marks.c
        is_later_state = or_(marks.file_id != point.file_id, marks.generation < point.generation)
        connection.execute(
            insert_into(connection, chain_marks)
            .values(mark_row(mark))
            .on_conflict_do_update(
                index_elements=["repository", "chain_id"],
                set_=mark_row(mark),
                where=or_(marks.number < point.number, and_(marks.number == point.number, is_later_state)),
            )
        )


def _refuse_second_history(connection: Connection, point: RestorePointRecord) -> None:
    points = restore_points.c
    other = connection.scalar(
        select(points.point_id).where(
            points.repository == point.repository,
            points.chain_id == point.chain_id,
            points.number == point.number,
            points.point_id != point.point_id,
        )
    )
    if other is not None:
        message = (
            f"chain {point.chain_id} in repository {point.repository} has point {point.point_id} "
            f"in the place of point {other}"
        )
        raise ChainBroken(
            message,
            hint="The repository was set back; start a new chain, or forget this one first.",
        )


def _is_one_of(repository: RepositoryName, point_ids: Sequence[PointId]) -> tuple[ColumnElement[bool], ...]:
    return restore_points.c.repository == repository, restore_points.c.point_id.in_(point_ids)


def _move_mark(connection: Connection, repository: RepositoryName, chain_id: ChainId, to: RepositoryName) -> None:
    """Let the mark of a chain follow its last point out of a repository."""
    points = restore_points.c
    left = select(points.point_id).where(points.repository == repository, points.chain_id == chain_id).limit(1)
    if connection.execute(left).first() is None:
        connection.execute(chain_marks.delete().where(*_is_marked(to, chain_id)))
        connection.execute(chain_marks.update().values(repository=to).where(*_is_marked(repository, chain_id)))


def _is_marked(repository: RepositoryName, chain_id: ChainId) -> tuple[ColumnElement[bool], ...]:
    return chain_marks.c.repository == repository, chain_marks.c.chain_id == chain_id
