"""A point that joins the file of its session, in a chain that several machines share."""

import msgspec

from holdfast.errors import ChainBusy
from holdfast.faults import reach
from holdfast.formats.contents import Point
from holdfast.model.ids import SessionId
from holdfast.model.machine import Snapshot
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.chains.session_file import drop_points
from holdfast.storage.files.atomic import Files
from holdfast.storage.files.immutable import set_immutable
from holdfast.storage.intake.new_points import new_point
from holdfast.storage.points.point_writer import with_new_point


def add_point(files: Files, file: ChainFile, session: SessionId, snapshot: Snapshot, before: Point | None) -> Point:
    """Open a session's file for the point of one more machine, durably, and return the point.

    What the same machine had begun in it of another snapshot leaves the file. Raises `ChainBusy` while another machine
    writes.
    """
    # It is made so again by the retention of this session, should one have come between two machines of it.
    set_immutable(file.path, wanted=False)
    with ChainRewriter.resume(files, file.path, keys=file.keys) as writer:
        first, last = writer.contents.holds
        if any(int(name[:8]) > last for name in chain_file_names(files, file.path.parent)):
            raise ChainBusy(f"chain {file.path.parent.name} got another file while a point joined {file.path.name}")
        writer.spare_readers()
        machine = snapshot.machine_id
        points = writer.contents.points
        drop_points(writer, [p.number for p in points if not p.complete and p.machine.machine_id == machine])
        point = new_point(session, snapshot, before, last + 1)
        for disk in point.disks:
            writer.add_disk(machine, disk.key)
        contents = msgspec.structs.replace(writer.contents, holds=(first, point.number))
        writer.contents = with_new_point(contents, point)
        writer.commit()
        reach("joining.added")
        return writer.contents.points[-1]
