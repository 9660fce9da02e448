"""Files of the host that count what is read and written, and a machine whose points lie in them."""

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import Buffer, FileHandle, HostFiles, HostHandle
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import ProtectedMachine
from tests.holdfast.storage.conftest import PIPE

MIB = 1 << 20


class CountedFiles(HostFiles):
    """The file systems of the host; bytes of chain files are counted. ``can_share`` False: as if none shared blocks."""

    def __init__(self, *, can_share: bool = True) -> None:
        self.can_share = can_share
        self.read_bytes = 0
        self.written_bytes = 0

    @override
    def open(self, path: Path, *, write: bool = False) -> FileHandle:
        return self._counted(super().open(path, write=write))

    @override
    def create(self, path: Path) -> FileHandle:
        return self._counted(super().create(path))

    def _counted(self, handle: FileHandle) -> FileHandle:
        assert isinstance(handle, HostHandle)
        return CountedHandle(self, handle)


class CountedHandle(HostHandle):
    """An open file of `CountedFiles`."""

    def __init__(self, counts: CountedFiles, handle: HostHandle) -> None:
        super().__init__(handle.path, handle.descriptor)
        self._counts = counts

    @override
    def read(self, offset: int, length: int) -> bytes:
        data = super().read(offset, length)
        self._counts.read_bytes += len(data)
        return data

    @override
    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        super().write(offset, buffers)
        self._counts.written_bytes += sum(map(len, buffers))

    @override
    def share(self, offset: int, source: FileHandle, source_offset: int, length: int) -> bool:
        return self._counts.can_share and super().share(offset, source, source_offset, length)


def host_machine(folder: Path, size_mib: int, changed_mib: Sequence[int]) -> ProtectedMachine:
    """Return a machine with a full and one increment for each number, changed from the beginning of its disk on."""
    repository = Repository.create(folder, HostFiles(), "id", SystemClock().now())
    store = StoreOptions(unit_size=1 << 20)
    machine = ProtectedMachine(repository, 1, {"a": size_mib * MIB}, store, PIPE)
    machine.disks["a"].write(Span(0, size_mib * MIB - PIECE_SIZE))
    machine.back_up()
    at = 0
    for changed in changed_mib:
        machine.disks["a"].write(Span(at, changed * MIB))
        machine.back_up()
        at += changed * MIB // 2
    return machine
