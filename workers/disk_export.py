"""Writes a disk of a restore point into a file of its own, in the format of a hypervisor.

The disk is restored into a sparse raw file by the pipe that every restore takes; `qemu-img` makes other formats of it.
"""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import DiskWriteFailed
from holdfast.formats.magic import NEVER_WRITTEN, PIECE_SIZE
from holdfast.pipeline.restore import DiskRestore, compare_target
from holdfast.providers.raw_disks import TargetDisk
from holdfast.storage.chains.chain import StoredDisk
from workers.part_file import PartFile
from workers.qemu_img import QemuImg

Report = Callable[[str, int, int], None]
"""Gets what is being done, how many bytes are done, and of how many; what it raises ends the export."""


class ExportFormat(StrEnum):
    """What a disk may be written as."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"


_OPTIONS: Final = {ExportFormat.QCOW2: "compat=1.1", ExportFormat.VMDK: "subformat=streamOptimized"}
_SUFFIXES: Final = {
    ".raw": ExportFormat.RAW,
    ".img": ExportFormat.RAW,
    ".qcow2": ExportFormat.QCOW2,
    ".vmdk": ExportFormat.VMDK,
}


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that was written."""

    file: Path
    format: ExportFormat
    size_bytes: int
    data_bytes: int
    """What of it was written; the rest is zeros."""
    file_bytes: int
    """What the file takes on its file system."""
    is_verified: bool


def format_of(path: Path) -> ExportFormat | None:
    """Return the format that the end of a file's name stands for, or None."""
    return _SUFFIXES.get(path.suffix.lower())


class DiskExport:
    """Exports of one kind. The constructor raises `ToolMissing` when `qemu-img` is needed and not there."""

    def __init__(self, how: ExportFormat, clock: Clock, *, verifies: bool) -> None:
        self._how = how
        self._clock = clock
        self._verifies = verifies
        self._qemu = None if how is ExportFormat.RAW else QemuImg()

    def run(self, source: StoredDisk, target: Path, report: Report) -> ExportReport:
        """Write a disk. Nothing is left behind unless the file is whole and durable.

        Raises `TargetExists` when there is something of that name, `DiskWriteFailed`, `RestoredBytesDiffer`, and the
        errors of the chain's files.
        """
        data_bytes = _data_bytes(source)
        with PartFile(target) as part:
            self._check_space(part, data_bytes)
            part.resize(source.size_bytes)
            self._restore(source, part.path, report)
            made = self._converted(part, source.size_bytes, report)
            file_bytes = made.stat().st_blocks * 512
            part.publish(made)
            return ExportReport(
                file=part.target,
                format=self._how,
                size_bytes=source.size_bytes,
                data_bytes=data_bytes,
                file_bytes=file_bytes,
                is_verified=self._verifies,
            )

    def _check_space(self, part: PartFile, data_bytes: int) -> None:
        """Raise `DiskWriteFailed` when the data does not fit; a converted disk stands beside the raw one meanwhile."""
        needed = data_bytes if self._qemu is None else 2 * data_bytes
        free = part.free_bytes()
        if free < needed:
            hint = "Make room, or export to another file system."
            raise DiskWriteFailed(f"{part.target} may need {needed} bytes and {free} are free", hint=hint)

    def _restore(self, source: StoredDisk, path: Path, report: Report) -> None:
        key = source.digest_key
        with TargetDisk(path) as disk:
            restore = DiskRestore(source, disk, key, self._clock)
            restore.run(0, lambda progress: report("writing", progress.reached_bytes, progress.size_bytes))
        if self._verifies:
            with TargetDisk(path) as disk:  # opened anew, so that what is read is what the storage holds
                compare_target(source, disk, key, lambda done: report("reading back", done, source.size_bytes))

    def _converted(self, part: PartFile, size_bytes: int, report: Report) -> Path:
        """Return the file in its format."""
        if self._qemu is None:
            return part.path
        report("converting", 0, size_bytes)
        self._qemu.convert(part.path, part.second_path, self._how, _OPTIONS[self._how])
        if self._verifies:
            report("reading back", 0, size_bytes)
            self._qemu.compare(part.path, part.second_path, self._how)
        return part.second_path


def _data_bytes(source: StoredDisk) -> int:
    written = (count for _, count, writer in source.writers(0, source.pieces) if writer != NEVER_WRITTEN)
    return min(sum(written) * PIECE_SIZE, source.size_bytes)
