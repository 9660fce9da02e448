"""Points with more than 4 GiB of data, and chain files longer than that: no number in them is too small."""

import struct
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span
from holdfast.pipeline.restore import DiskRestore
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import transfer_disk

GIB = 1 << 30
LARGE, SMALL = DiskKey("large"), DiskKey("small")
SIZES = {LARGE: 5 * GIB, SMALL: 64 << 20}
STORE = StoreOptions(unit_size=1 << 20)
STAMP = struct.Struct("<QQ")


class StampedDisk:
    """Pieces that say where they are and of which turn; reads like a source disk, and as a target checks them."""

    def __init__(self, size_bytes: int, turn: int) -> None:
        self.size_bytes = size_bytes
        self._block = memoryview(bytes(range(256)) * (PIECE_SIZE // 256))
        self._turn = turn
        self._lock = threading.Lock()
        self.checked_bytes = 0

    def read_into(self, offset: int, buffer: memoryview) -> None:
        for at in range(0, len(buffer), PIECE_SIZE):
            buffer[at : at + PIECE_SIZE] = self._block
            STAMP.pack_into(buffer, at, offset + at + 1, self._turn)

    def write(self, offset: int, data: memoryview) -> None:
        for at in range(0, len(data), PIECE_SIZE):
            assert STAMP.unpack_from(data, at) == (offset + at + 1, self._turn)
        with self._lock:
            self.checked_bytes += len(data)

    def write_zeros(self, span: Span) -> None:
        raise AssertionError(f"{span} has no zeros")

    def flush(self) -> None: ...

    def allocated_spans(self) -> Iterator[Span]:
        yield Span(0, self.size_bytes)

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None: ...


def snapshot(turn: int) -> Snapshot:
    machine = Machine(
        machine_id=MachineId("m"),
        name="large",
        power=PowerState.ON,
        disks=tuple(Disk(key=key, size_bytes=size) for key, size in SIZES.items()),
    )
    return Snapshot(
        snapshot_id=SnapshotId(f"snapshot-{turn}"),
        machine_id=machine.machine_id,
        tag="test",
        created=SystemClock().now() + timedelta(minutes=turn),
        disks=tuple(
            SnapshotDisk(key=key, size_bytes=size, change_id=ChangeId(f"{turn}")) for key, size in SIZES.items()
        ),
        machine=machine,
    )


def back_up(repository: Repository, turn: int, pipe: PipeOptions) -> Path:
    """Make a point in which all pieces are of a turn; return its file."""
    opened = begin_point(repository, SessionId(f"session-{turn}"), snapshot(turn), STORE)
    for key, size in SIZES.items():
        whole = (ReadMode.CHANGED, [Span(0, size)], STORE, pipe)
        figures = transfer_disk(repository, opened, key, StampedDisk(size, turn), whole)
        assert figures.read_bytes == size
    finish_point(repository, opened, None)
    return repository.chain_file(opened.chain, opened.file)


def check(repository: Repository, turn: int) -> None:
    """Restore the newest point, and compare every piece."""
    [folder] = repository.chain_folders()
    with repository.open_chain(repository.relative(folder), None) as chain:
        found = chain.newest(MachineId("m"))
        assert found is not None
        for key, size in SIZES.items():
            target = StampedDisk(size, turn)
            stored = chain.disk(found[1].number, key)
            DiskRestore(stored, target, chain.files[0].keys.digest_key, SystemClock()).run(0, lambda _: None)
            assert target.checked_bytes == size


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_full_of_more_than_4_gib_reads_back(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r", HostFiles(), "ab" * 16, SystemClock().now())
    back_up(repository, 1, PipeOptions())
    check(repository, 1)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_file_longer_than_4_gib_is_written_merged_into_and_read(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r", HostFiles(), "ab" * 16, SystemClock().now())
    pipe = PipeOptions(compression=Compression.NONE)
    full = back_up(repository, 1, pipe)
    assert full.stat().st_size > 5 * GIB
    check(repository, 1)
    increment = back_up(repository, 2, pipe)
    check(repository, 2)
    moved: list[int] = []
    ChainUpkeep(repository.files, full.parent, None).merge(full.name, increment.name, moved.append)
    assert moved[-1] > 5 * GIB
    check(repository, 2)
    [folder] = repository.chain_folders()
    with repository.open_chain(repository.relative(folder), None) as chain:
        report = verify_chain(chain, lambda _: None)
        assert report.is_good, report.damages
