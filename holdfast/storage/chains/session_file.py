"""The file of a session whose points are of several machines, in a chain of the whole job.

Machines take turns: each adds its point to the file, and the file is complete whenever no point of it is on its way. It
is opened again for the next machine; from then on nothing is written over that an earlier commit names, so whoever
reads a finished point goes on reading. What a machine that fails has begun leaves the file, and all others stay.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from holdfast.errors import ChainBroken, RequestInvalid
from holdfast.faults import reach
from holdfast.formats.keys import ChainKeys
from holdfast.model.ids import MachineId, SessionId
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.files.atomic import Files


def file_of_session(chain: Chain, session: SessionId) -> ChainFile | None:
    """Return the newest file of a chain with points of a session, or None."""
    return next((file for file, point in reversed(chain.points()) if point.session == session), None)


def can_join(chain: Chain, file: ChainFile, session: SessionId) -> bool:
    """Return whether another machine of a session may add its point to a file: the last one, which it has begun.

    Not to one that was merged into a full meanwhile: that may have a point of the machine, and a file holds one.
    """
    first, last = file.contents.holds
    is_last = not chain.unreadable and all(other.contents.holds[0] <= last for other in chain.files)
    points = file.contents.points
    return is_last and points[0].number == first and all(point.session == session for point in points)


def is_of_session(file: ChainFile, session: SessionId) -> bool:
    """Return whether a point of the file is of the session."""
    return any(point.session == session for point in file.contents.points)


def unfinished_of(file: ChainFile, machine_id: MachineId | None) -> list[int]:
    """Return the numbers of the points that are not complete, of one machine if given."""
    points = [point for point in file.contents.points if not point.complete]
    return [point.number for point in points if machine_id in {None, point.machine.machine_id}]


def has_finished(file: ChainFile) -> bool:
    """Return whether a point of the file is complete."""
    return any(point.complete for point in file.contents.points)


def drop_unfinished(files: Files, path: Path, keys: ChainKeys, machine_id: MachineId | None = None) -> None:
    """Take points out of a file that were not finished, those of one machine if given; the others stay.

    The file is complete afterwards when no other is on its way. May be repeated. Raises `ChainBusy`, and `ChainBroken`
    when nothing would be left.
    """
    with ChainRewriter.resume(files, path, keys=keys) as writer:
        points = writer.contents.points
        going = [p.number for p in points if not p.complete and machine_id in {None, p.machine.machine_id}]
        if len(going) == len(points):
            raise ChainBroken(f"{path} has no finished point any more")
        writer.spare_readers()
        drop_points(writer, going)
        if all(point.complete for point in writer.contents.points):
            writer.commit_complete()
        else:
            writer.commit()
        reach("session_file.dropped")


def drop_points(writer: ChainRewriter, numbers: Iterable[int]) -> None:
    """Forget points and what the file holds for them; units stay, for another machine may have referred to them."""
    for number in numbers:
        point = writer.contents.point(number)
        for disk in () if point is None else point.disks:
            writer.drop_pieces(disk.disk)
        rest = tuple(other for other in writer.contents.points if other.number != number)
        writer.contents = msgspec.structs.replace(writer.contents, points=rest)


def check_one_machine(chain: Chain) -> None:
    """Raise `RequestInvalid` for a chain with points of several machines: what changes it would lose all but one."""
    machines = {point.machine.machine_id: point.machine.name for _, point in chain.points()}
    if len(machines) > 1:
        raise RequestInvalid(
            f"chain {chain.folder.name} is shared by several machines: {', '.join(sorted(machines.values()))}"
        )
