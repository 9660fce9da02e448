"""Drives chains through the product's own steps, for tests of whole chains."""

import random
from collections.abc import Sequence

from holdfast.clock import SystemClock
from holdfast.formats.keys import PassphraseCost
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.machine_files import MachineFile
from holdfast.model.points import PointSummary
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.restore import DiskRestore
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_files import put_files
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.memory import MemoryDisk

CLOCK = SystemClock()
KEY = DiskKey("disk0")
MACHINE = MachineId("m1")
CHEAP = PassphraseCost(memory_kib=64, iterations=1, lanes=1)


def make_content(rng: random.Random, pieces: int) -> bytearray:
    kinds = [bytes(PIECE_SIZE), b"same" * (PIECE_SIZE // 4)]
    return bytearray(b"".join(rng.choice([*kinds, rng.randbytes(PIECE_SIZE)]) for _ in range(pieces)))


def snapshot_of(
    content: bytes | bytearray, number: int, machine_id: MachineId = MACHINE, name: str = "web 01"
) -> Snapshot:
    machine = Machine(
        machine_id=machine_id,
        name=name,
        power=PowerState.OFF,
        disks=(Disk(key=KEY, size_bytes=len(content)),),
    )
    return Snapshot(
        snapshot_id=SnapshotId(f"s{number}"),
        machine_id=machine.machine_id,
        tag="t",
        created=CLOCK.now(),
        disks=(SnapshotDisk(key=KEY, size_bytes=len(content)),),
        machine=machine,
    )


def back_up(
    repository: Repository,
    content: bytes,
    number: int,
    passphrase: str | None,
    files: Sequence[MachineFile] = (),
    *,
    machine_id: MachineId = MACHINE,
    name: str = "web 01",
) -> PointSummary:
    snapshot = snapshot_of(content, number, machine_id, name)
    options = StoreOptions(unit_size=256 << 10, passphrase=passphrase, passphrase_cost=CHEAP)
    opened = begin_point(repository, SessionId(f"session-{number}"), snapshot, options)
    folder = repository.chain_folder(opened.chain)
    with (
        repository.open_chain(opened.chain, passphrase) as chain,
        ChainWriter.resume(repository.files, folder / opened.file, passphrase) as writer,
    ):
        put_files(writer, opened.number, files)
        parent = None if opened.parent_number is None else chain.disk(opened.parent_number, KEY)
        reader = MemoryDisk(content)
        copy = DiskCopy(reader, DiskIntake(open_disk(writer, opened.number, KEY, parent), CLOCK), CLOCK)
        copy.run(whole_disk_steps(reader.allocated_spans(), len(content), PIECE_SIZE), lambda _: None)
    return finish_point(repository, opened, passphrase)


def restored(repository: Repository, point: PointSummary, passphrase: str | None) -> bytes:
    with repository.open_chain(point.chain, passphrase) as chain:
        disk = chain.disk(point.number, KEY)
        target = MemoryDisk(bytes(disk.size_bytes))
        DiskRestore(disk, target, chain.files[0].keys.digest_key, CLOCK).run(0, lambda _: None)
    return bytes(target.content)
