"""Chains as retention sees them, and what is special of those that several machines share.

A file is kept or goes as a whole. The points of one session stand in it; the newest of them stands for all.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from holdfast.formats.keys import ChainKeys
from holdfast.model.ids import MachineId, PointId
from holdfast.model.retention import PointNote
from holdfast.planning.retention_steps import RetentionStep


class SeenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A chain file with a complete point."""

    name: str
    kind: str
    size_bytes: int
    number: int
    point_id: PointId
    created: datetime
    needs: frozenset[str]
    """Names of the files that the point rests on."""
    members: tuple[tuple[PointId, str], ...] = ()
    """All points of the file, each with the id of its machine; a file of a whole job has several."""
    is_settled: bool
    """Whether both superblocks call it complete; one that only one does so is written once more before a next point."""


class SeenChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain with at least one complete point."""

    name: str
    folder: Path
    keys: ChainKeys
    files: tuple[SeenFile, ...]
    notes: tuple[PointNote, ...]
    superseded: tuple[tuple[str, str], ...] = ()
    """Files that an interrupted merge took over, oldest first, each with the file that holds its point now."""
    machine_id: str = ""
    machine_name: str = ""
    """As its newest point has them."""


def newest_of_each(
    chains: Sequence[SeenChain], gone: Collection[MachineId], *, is_merged: bool = False
) -> dict[PointId, str]:
    """Return the points that stay because they stand for the newest of a machine, and why; chains come oldest first.

    Nothing where all are of one machine, whose newest points the rules keep. A machine that is gone keeps nothing. The
    chain that is continued keeps nothing for it where increments are merged, because merges leave each machine its
    newest point.
    """
    newest = {machine: file.point_id for chain in chains for file in chain.files for _, machine in file.members}
    if len(newest) < 2:  # noqa: PLR2004 - shared by several
        return {}
    safe = {file.point_id for file in chains[-1].files} if is_merged else set()
    reason = "the newest point of a machine is in its file"
    return {point: reason for machine, point in newest.items() if machine not in gone and point not in safe}


def note_of(chain: SeenChain, file: SeenFile, notes: Mapping[PointId, PointNote]) -> PointNote:
    """Return what is noted of a file: marks and locks of all its points, the day of the newest.

    An older one has a note of its own when somebody locked it, or when retention came between two machines.
    """
    members, newest = {point for point, _ in file.members}, notes[file.point_id]
    others = [note for note in chain.notes if note.point_id in members and note.point_id != file.point_id]
    locks = [note.locked_until for note in (newest, *others) if note.locked_until is not None]
    marks = (*newest.marks, *(mark for note in others for mark in note.marks))
    return msgspec.structs.replace(newest, marks=marks, locked_until=max(locks, default=None))


def with_all_points(
    step: RetentionStep, chains: Sequence[SeenChain], gone: Collection[MachineId] = ()
) -> RetentionStep:
    """Return a step with all points that are gone behind it, where each file was spoken of by one of its points.

    A merge leaves each machine its last point, but for machines that are ``gone``.
    """
    files = [file for chain in chains if chain.name == step.chain for file in chain.files]
    going = [file for file in files if file.name in {step.into, *step.files}]
    if not step.into:
        return msgspec.structs.replace(step, points=tuple(point for file in going for point, _ in file.members))
    last = {machine: point for file in going for point, machine in file.members}
    later = {machine for file in files if file.number >= going[-1].number for _, machine in file.members}
    let_go = {point for machine, point in last.items() if machine in gone and machine not in later}
    kept = set(last.values()) - let_go
    return msgspec.structs.replace(
        step,
        points=tuple(point for file in going for point, _ in file.members if point not in kept),
        let_go=tuple(point for file in going for point, _ in file.members if point in let_go),
    )
