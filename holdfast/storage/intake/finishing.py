"""The end of a restore point: completed, announced in the metadata, read back, and told of."""

from pathlib import Path

from holdfast.errors import ChainBroken, PointNotFound
from holdfast.faults import reach
from holdfast.formats.contents import Point
from holdfast.model.ids import ChainId, FileId, MachineId, PointId
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.metadata import check_chain, refresh_metadata
from holdfast.storage.chains.owning import owner_of, seen_by
from holdfast.storage.chains.repository import Repository
from holdfast.storage.points.begun_point import begun_point
from holdfast.storage.points.point_writer import complete_point


def finish_point(repository: Repository, opened: OpenPoint, passphrase: str | None) -> PointSummary:
    """Complete a point whose disks are all written, write the metadata, and read everything back.

    The chain is looked at first: a point that hangs on a missing or rolled-back file is never called complete.
    """
    repository.check_present()
    files, folder = repository.files, repository.chain_folder(opened.chain)
    path = repository.chain_file(opened.chain, opened.file)
    if not files.exists(path):
        raise PointNotFound(f"file {opened.file} of chain {opened.chain} is gone")
    with Chain.open(files, folder, passphrase) as chain:
        check_chain(files, chain)
    with ChainWriter.resume(files, path, passphrase) as writer:
        begun_point(writer.contents, opened.number, opened.point_id)
        written = complete_point(writer, opened.number)
        reach("finish.completed")
        refresh_metadata(files, folder, passphrase)  # still under the lock of the chain, which upkeep takes, too
    with Chain.open(files, folder, passphrase) as chain:
        check_chain(files, chain)
        file, point = chain.point(opened.number)
        if point != written:
            raise ChainBroken(f"point {opened.number} of chain {opened.chain} does not read back as written")
        return summarize(repository, folder, file, point)


def summarize(repository: Repository, folder: Path, file: ChainFile, point: Point) -> PointSummary:
    """Return what is told of a complete point of a chain, as one of the machine that owns the chain."""
    point = seen_by(point, owner_of(repository.files, folder, file.keys))
    return PointSummary(
        chain=repository.relative(folder),
        chain_id=ChainId(file.contents.chain),
        file=file.path.name,
        file_id=FileId(file.contents.file),
        number=point.number,
        point_id=PointId(point.id),
        kind=file.contents.kind,
        machine_id=MachineId(point.machine.machine_id),
        machine_name=point.machine.name,
        created=point.created,
        root=point.root or "",
        size_bytes=sum(disk.size for disk in point.disks),
        file_bytes=file.superblock.end,
        generation=file.superblock.generation,
    )
