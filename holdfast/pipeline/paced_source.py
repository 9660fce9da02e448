"""A disk of a restore point whose files are here, read no faster than allowed."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from typing import Protocol

import msgspec
from typing_extensions import override

from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import HeldRun, ReadableFile, StoredSource, checked_unit


class SizedFile(ReadableFile, Protocol):
    """A file that knows how long its units are as they are stored."""

    def unit_length(self, number: int) -> int:
        """Return the stored bytes of a unit."""
        ...


class _SizedRun(HeldRun, Protocol):
    @property
    @override
    def file(self) -> "_SizedUnits | None": ...


class _SizedUnits(SizedFile, Protocol):
    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]": ...


class SizedSource(StoredSource, Protocol):
    """A disk at a restore point in such files."""

    @override
    def runs(self, start: int, end: int) -> Iterator[_SizedRun]:
        """Yield where pieces are, in order and without gaps."""
        ...


class PacedFile:
    """Reads units of a file at a pace."""

    def __init__(self, file: SizedFile, pace: Pace) -> None:
        self.pieces_per_unit = file.pieces_per_unit
        self._file = file
        self._pace = pace

    def fetch(self, number: int, pool: Executor, key: bytes) -> "Future[bytes | memoryview]":
        """Return the body of a unit, read and compared with its digests by ``pool`` once it may be."""
        return pool.submit(self._read, number, key)

    def _read(self, number: int, key: bytes) -> bytes | memoryview:
        self._pace.take(self._file.unit_length(number))
        return checked_unit(self._file, number, key)


class PacedRun(msgspec.Struct, frozen=True):
    """Consecutive pieces at consecutive places; zeros when ``file`` is None."""

    piece: int
    count: int
    file: PacedFile | None
    place: int


class PacedSource:
    """Reads another source at a pace; see `holdfast.pipeline.restore.StoredSource`."""

    def __init__(self, source: SizedSource, pace: Pace) -> None:
        self._source = source
        self._pace = pace
        self._files: dict[int, PacedFile] = {}
        self.size_bytes = source.size_bytes
        self.pieces = source.pieces
        self.machine_name = source.machine_name
        self.digest_key = source.digest_key
        self.change_id = source.change_id
        self.left_out = source.left_out

    def watch(self, busy: PipeClocks) -> None:
        """Count from now on in these clocks how long reading takes, and how long it waits for its share."""
        self._pace.waiting = busy.throttled
        self._source.watch(busy)

    @property
    def round_trip_s(self) -> float:
        """Return how long an answer takes at least."""
        return self._source.round_trip_s

    @property
    def is_doubted(self) -> bool:
        """Return whether a point behind this one found that change tracking leaves changes of the disk out."""
        return self._source.is_doubted

    def piece_digests(self, start: int, end: int) -> bytes | bytearray:
        """Return the joined digests of pieces."""
        return self._source.piece_digests(start, end)

    def runs(self, start: int, end: int) -> Iterator[PacedRun]:
        """Yield where pieces are, in order and without gaps."""
        for run in self._source.runs(start, end):
            file = None if run.file is None else self._paced(run.file)
            yield PacedRun(run.piece, run.count, file, run.place)

    def _paced(self, file: SizedFile) -> PacedFile:
        """Return the one that stands for a file, which lives as long as the source."""
        found = self._files.get(id(file))
        if found is None:
            found = self._files[id(file)] = PacedFile(file, self._pace)
        return found
