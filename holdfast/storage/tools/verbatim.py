"""Copies chain files byte for byte into a folder, resumable within one commit, each commit flushed and read back.

What is done stands in a journal beside the copies, which is written after each commit. A file that changed since, as a
merge changes it, is copied anew.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from blake3 import blake3

from holdfast.errors import DataDamaged, RepositoryFull
from holdfast.faults import reach
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.files.atomic import FileHandle, Files

JOURNAL_NAME: Final = "move.json"
COMMIT_BYTES: Final = 64 << 20
_CHUNK_BYTES: Final = 4 << 20
_SPARE_BYTES: Final = 1 << 20
"""For what lies beside the files: metadata, notes, the journal."""

Report = Callable[[int], None]
"""Gets how many bytes are copied and read back; what it raises ends the copy at a commit."""


class CopiedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was when its copy began, and how much of it is there."""

    name: str
    file: str
    generation: int
    size: int
    done: int = 0


class _Journal(msgspec.Struct, frozen=True, kw_only=True):
    format: int = 1
    files: tuple[CopiedFile, ...] = ()


_JOURNAL_DECODER: Final = msgspec.json.Decoder(_Journal)


class VerbatimCopy:
    """A copy of chain files into a folder that is nobody else's. The caller keeps writers from both."""

    def __init__(self, files: Files, folder: Path, commit_bytes: int = COMMIT_BYTES) -> None:
        self._files = files
        self._folder = folder
        self._commit_bytes = commit_bytes
        self._done: dict[str, CopiedFile] = {}

    def run(self, sources: Sequence[ChainFile], report: Report) -> int:
        """Copy what is not there yet; return how many bytes that were.

        Raises `RepositoryFull` before anything is copied, and `DataDamaged` when a commit does not read back.
        """
        known = {file.name: file for file in self._read_journal()}
        wanted = [_wanted(source, known.get(source.path.name)) for source in sources]
        self._forget_others({file.name for file in wanted})
        self._reserve(wanted)
        self._done = {file.name: file for file in wanted}
        before = sum(file.done for file in wanted)
        report(before)
        for source in sources:
            self._copy(source, report)
        return sum(file.size for file in wanted) - before

    def _copy(self, source: ChainFile, report: Report) -> None:
        name = source.path.name
        target = self._files.open(self._folder / name, write=True)
        try:
            while (state := self._done[name]).done < state.size:
                length = min(self._commit_bytes, state.size - state.done)
                self._commit(source.handle, target, state.done, length)
                self._done[name] = msgspec.structs.replace(state, done=state.done + length)
                self._write_journal()
                reach("verbatim.committed")
                report(sum(file.done for file in self._done.values()))
        finally:
            target.close()

    def _commit(self, source: FileHandle, target: FileHandle, offset: int, length: int) -> None:
        written = blake3()
        for at in range(offset, offset + length, _CHUNK_BYTES):
            data = source.read(at, min(_CHUNK_BYTES, offset + length - at))
            written.update(data)
            target.write(at, [data])
        target.sync()
        reach("verbatim.flushed")
        target.forget(offset, length)
        stored = blake3()
        for at in range(offset, offset + length, _CHUNK_BYTES):
            stored.update(target.read(at, min(_CHUNK_BYTES, offset + length - at)))
        if stored.digest() != written.digest():
            raise DataDamaged(f"{length} bytes of {target.path} at {offset} do not read back as they were written")

    def _reserve(self, wanted: Sequence[CopiedFile]) -> None:
        """Take the space of everything that is to come before the first byte of it is copied."""
        fresh = [file for file in wanted if not file.done]
        for file in fresh:
            self._files.remove(self._folder / file.name)
        missing = sum(file.size for file in fresh) + _SPARE_BYTES
        free = self._files.free_bytes(self._folder)
        if free < missing:
            raise RepositoryFull(f"{missing} bytes are needed in {self._folder.parent}, {free} are free")
        for file in fresh:
            handle = self._files.create(self._folder / file.name)
            try:
                handle.reserve(0, file.size)
            finally:
                handle.close()

    def _forget_others(self, names: set[str]) -> None:
        """Remove copies of files that the chain has no more."""
        for name in self._files.names(self._folder):
            if name.endswith(".hfc") and name not in names:
                self._files.remove(self._folder / name)

    def _read_journal(self) -> tuple[CopiedFile, ...]:
        path = self._folder / JOURNAL_NAME
        if not self._files.exists(path):
            return ()
        try:
            return _JOURNAL_DECODER.decode(self._files.read(path)).files
        except msgspec.DecodeError:
            return ()  # everything is copied anew

    def _write_journal(self) -> None:
        journal = _Journal(files=tuple(self._done.values()))
        self._files.replace(self._folder / JOURNAL_NAME, msgspec.json.encode(journal))


def _wanted(source: ChainFile, known: CopiedFile | None) -> CopiedFile:
    now = CopiedFile(
        name=source.path.name,
        file=source.contents.file,
        generation=source.superblock.generation,
        size=source.handle.size(),
    )
    return now if known is None or msgspec.structs.replace(known, done=0) != now else known
