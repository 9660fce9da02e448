"""A disk at a restore point as bytes at any offset; every piece is compared with its digest before it is given out."""

from collections import OrderedDict
from typing import Final

from holdfast.formats.magic import PIECE_SIZE
from holdfast.pipeline.restore import checked_unit
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chains.chain import PieceRun, StoredDisk

_KEPT_BYTES: Final = 32 << 20


class PointReader:
    """Reads a disk of a point. Use from one thread. Holds up to 32 MiB of decoded units, at least one."""

    def __init__(self, disk: StoredDisk) -> None:
        self.size_bytes = disk.size_bytes
        self._disk = disk
        self._units: OrderedDict[tuple[int, int], bytes | memoryview] = OrderedDict()
        self._held = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes; what lies behind the end of the disk is zeros. Raises the errors of the chain's files."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``, as `read` does."""
        end = min(offset + len(buffer), self._disk.pieces * PIECE_SIZE)
        buffer[max(0, end - offset) :] = bytes(len(buffer) - max(0, end - offset))
        if offset >= end:
            return
        for run in self._disk.runs(offset // PIECE_SIZE, -(-end // PIECE_SIZE)):
            for at in range(run.count):
                self._copy(run, at, offset, buffer[: end - offset])

    def _copy(self, run: PieceRun, at: int, offset: int, buffer: memoryview) -> None:
        """Copy what of one piece of a run lies in the buffer, which begins at ``offset``."""
        start = (run.piece + at) * PIECE_SIZE
        low, high = max(start, offset), min(start + PIECE_SIZE, offset + len(buffer))
        if run.file is None:
            buffer[low - offset : high - offset] = bytes(high - low)
            return
        number, slot = divmod(run.place + at, run.file.pieces_per_unit)
        body = self._unit(run.file, number)
        within = slot * PIECE_SIZE - start
        buffer[low - offset : high - offset] = memoryview(body)[low + within : high + within]

    def _unit(self, file: ChainFile, number: int) -> bytes | memoryview:
        key = (id(file), number)
        body = self._units.get(key)
        if body is None:
            body = self._units[key] = checked_unit(file, number, self._disk.digest_key)
            self._held += len(body)
            while self._held > _KEPT_BYTES and len(self._units) > 1:
                self._held -= len(self._units.popitem(last=False)[1])
        else:
            self._units.move_to_end(key)
        return body
