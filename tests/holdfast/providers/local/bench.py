"""The local provider on the conformance bench, and the operator's hand on its folder."""

import os
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.machine import Machine
from holdfast.providers.local.change_map import PIECE_SIZE
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.local.machines import (
    MACHINE_FILE,
    DiskEntry,
    MachineFile,
    Machines,
    Registered,
)
from holdfast.providers.local.root import Root
from holdfast.testing.provider_bench import ProviderBench


class SteppingClock:
    """A clock that stands still until it is told to go on; its monotonic side runs one second a call."""

    def __init__(self) -> None:
        self.present = datetime(2026, 1, 1, tzinfo=UTC)
        self._monotonic_s = 0.0

    def now(self) -> datetime:
        return self.present

    def monotonic_s(self) -> float:
        self._monotonic_s += 1.0
        return self._monotonic_s

    def advance(self, step: timedelta) -> None:
        self.present += step


class LocalBench:
    """Implements `holdfast.testing.provider_bench.ProviderBench` for the local provider."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.seed = seed
        self.change_grain_bytes = PIECE_SIZE
        self.clock = SteppingClock()
        self.provider = LocalProvider.create(root, self.clock)

    def reconnect(self) -> LocalProvider:
        return LocalProvider(self.root, self.clock)

    def make_machine(self, name: str, sizes_bytes: Sequence[int]) -> Machine:
        machine_id = MachineId(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {self._count()}")))
        folder = self.root / "machines" / machine_id
        folder.mkdir()
        entries = []
        for index, size in enumerate(sizes_bytes):
            make_disk(folder / f"disk {index}.raw", size)
            entries.append(DiskEntry(key=DiskKey(f"scsi:{index}"), path=f"disk {index}.raw"))
        self.write_file(MachineFile(id=machine_id, name=name, disks=tuple(entries)), folder)
        return self.provider.machine(machine_id)

    def write_live(self, machine_id: MachineId, key: DiskKey, offset: int, data: bytes) -> None:
        with self.path(machine_id, key).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def read_live(self, machine_id: MachineId, key: DiskKey) -> bytes:
        return self.path(machine_id, key).read_bytes()

    def grow_disk(self, machine_id: MachineId, key: DiskKey, size_bytes: int) -> None:
        os.truncate(self.path(machine_id, key), size_bytes)

    def add_disk(self, machine_id: MachineId, size_bytes: int) -> DiskKey:
        record = self.record(machine_id)
        key = DiskKey("added")
        make_disk(record.folder / "added.raw", size_bytes)
        entry = DiskEntry(key=key, path="added.raw")
        self._change_disks(record, (*record.file.disks, entry))
        return key

    def remove_disk(self, machine_id: MachineId, key: DiskKey) -> None:
        record = self.record(machine_id)
        self.path(machine_id, key).unlink()
        self._change_disks(record, tuple(e for e in record.file.disks if e.key != key))

    def record(self, machine_id: MachineId) -> Registered:
        return Machines(Root(self.root)).with_id(machine_id)

    def path(self, machine_id: MachineId, key: DiskKey) -> Path:
        record = self.record(machine_id)
        entry = next(entry for entry in record.file.disks if entry.key == key)
        return record.folder / entry.path

    def write_file(self, file: MachineFile, folder: Path) -> None:
        (folder / MACHINE_FILE).write_bytes(msgspec.json.encode(file))

    def leftovers(self) -> list[str]:
        """Return every dotted name below the root; no finished operation leaves one."""
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob(".*"))

    def _change_disks(self, record: Registered, disks: tuple[DiskEntry, ...]) -> None:
        self.write_file(msgspec.structs.replace(record.file, disks=disks), record.folder)

    def _count(self) -> int:
        return len(list((self.root / "machines").iterdir()))


def as_provider_bench(bench: LocalBench) -> ProviderBench:
    """Let the type checker compare the bench with the protocol of the suite."""
    return bench


def make_disk(path: Path, size_bytes: int) -> None:
    """Make an empty sparse disk."""
    with path.open("xb") as file:
        file.truncate(size_bytes)
