"""What was written and never committed is counted, and nothing else."""

import random
from pathlib import Path

import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import SessionId
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files.abandoned import abandoned_bytes
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.storage.driving import CLOCK, KEY, snapshot_of

UNIT = 256 << 10
NEVER = PipeOptions(
    in_flight_bytes=2 * UNIT, commit_new_bytes=1 << 40, uncommitted_bytes_max=1 << 40, commit_interval_s=1e9
)


class Died(Exception):
    """The writer is gone."""


def test_units_behind_the_last_commit_are_counted(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())
    disk = MemoryDisk(random.Random(3).randbytes(64 * PIECE_SIZE))
    opened = begin_point(repository, SessionId("s"), snapshot_of(disk.content, 0), StoreOptions(unit_size=UNIT))
    path = repository.chain_folder(opened.chain) / opened.file

    def die_late(progress: PipeProgress) -> None:
        if progress.reached_bytes >= 60 * PIECE_SIZE:
            raise Died

    with ChainWriter.resume(repository.files, path) as writer:
        assert abandoned_bytes(writer.handle, writer.committed.end) == 0
        sink = open_disk(writer, opened.number, KEY, None)
        copy = DiskCopy(disk, DiskIntake(sink, CLOCK, NEVER), CLOCK, NEVER)
        with pytest.raises(Died):
            copy.run(whole_disk_steps(disk.allocated_spans(), disk.size_bytes, PIECE_SIZE), die_late)
        written = writer.end - writer.committed.end
    with ChainWriter.resume(repository.files, path) as writer:
        found = abandoned_bytes(writer.handle, writer.committed.end)
    assert 0 < found <= 64 * PIECE_SIZE
    assert found % UNIT == 0
    assert found <= written < found + (found // UNIT + 1) * 8192
