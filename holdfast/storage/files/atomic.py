"""The only place that creates, writes, syncs, renames and removes files of a repository.

Everything above works on the `Files` port, so that the crash explorer can put a model of a file system in its place.
Rules kept here: a write is complete or an error; a failed sync poisons the handle for good, because the kernel may have
thrown the data away and call the next sync a success; a replaced file appears under its name only when its bytes are on
stable storage; a name counts as durable only after its folder was synced. Every error is one of `RepositoryError`.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeAlias

from holdfast.errors import RepositoryFull, RepositoryUnavailable, StoreFailed, SyncFailed
from holdfast.faults import reach
from holdfast.storage.files.blocks import reserve_blocks, share_blocks

Buffer: TypeAlias = bytes | bytearray | memoryview
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV, errno.EROFS}
_BUFFERS_MAX = 64


class FileHandle(Protocol):
    """An open file. Reads may come from several threads at once, writes from one at a time."""

    @property
    def path(self) -> Path:
        """Where the file was opened."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""
        ...

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all buffers, one behind the other, from ``offset``."""
        ...

    def share(self, offset: int, source: "FileHandle", source_offset: int, length: int) -> bool:
        """Let bytes from ``offset`` on be the same blocks of the storage as those of another file.

        Return False, with nothing changed, where the file system cannot do that for these bytes.
        """
        ...

    def reserve(self, offset: int, length: int) -> None:
        """Take the space that a write there will need. Raises `RepositoryFull`; elsewhere without effect."""
        ...

    def trim(self) -> None:
        """Give back what was reserved behind the end of the file."""
        ...

    def sync(self) -> None:
        """Return once everything written before is on stable storage, or poison the handle and raise."""
        ...

    def size(self) -> int:
        """Return the length of the file in bytes."""
        ...

    def forget(self, offset: int, length: int) -> None:
        """Let go of what is cached of some bytes, so that the next reader gets what is stored; a hint, no promise."""
        ...

    def lock(self, *, shared: bool = False) -> bool:
        """Try to become the only holder of the file's lock; it ends with the handle or the process.

        A shared lock has several holders, and is waited for.
        """
        ...

    def close(self) -> None:
        """Close the file. Idempotent."""
        ...


class Files(Protocol):
    """A file system."""

    def open(self, path: Path, *, write: bool = False) -> FileHandle:
        """Open an existing file."""
        ...

    def create(self, path: Path) -> FileHandle:
        """Make a new file, durable under its name, and open it for writing; it must not exist."""
        ...

    def open_lock(self, path: Path) -> FileHandle:
        """Open a lock file, making it when it is not there."""
        ...

    def read(self, path: Path) -> bytes:
        """Return the whole content of a small file."""
        ...

    def replace(self, path: Path, data: bytes) -> None:
        """Put ``data`` under ``path`` as a whole; after a crash the old or the new content is there."""
        ...

    def rename(self, path: Path, new: Path) -> None:
        """Move a file inside its folder, durably; or a folder with all that is in it."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file, durably; nothing happens when it is gone."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents, durably; nothing happens when it is there."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder, durably; nothing happens when it is gone. Raises `StoreFailed` for a full one."""
        ...

    def names(self, path: Path) -> list[str]:
        """Return the sorted names inside a folder."""
        ...

    def exists(self, path: Path) -> bool:
        """Return whether a file or folder is there; an unreadable parent is an error, not an absence."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes can still be written to the file system that holds ``path``."""
        ...


class HostHandle:
    """A file of the host."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._poisoned = False

    @property
    def path(self) -> Path:
        """Where the file was opened."""
        return self._path

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""
        parts = []
        with _translated(self._path):
            while length > 0:
                part = os.pread(self._descriptor, length, offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all buffers, one behind the other, from ``offset``."""
        self._refuse_if_poisoned()
        rest = [memoryview(buffer) for buffer in buffers if len(buffer)]
        with _translated(self._path):
            while rest:
                written = os.pwritev(self._descriptor, rest[:_BUFFERS_MAX], offset)
                if written == 0:
                    raise StoreFailed(f"{self._path} takes no more bytes at offset {offset}")
                offset += written
                while rest and written >= len(rest[0]):
                    written -= len(rest.pop(0))
                if written:
                    rest[0] = rest[0][written:]

    @property
    def descriptor(self) -> int:
        """Return by what number the kernel knows the open file."""
        return self._descriptor

    def share(self, offset: int, source: FileHandle, source_offset: int, length: int) -> bool:
        """Let bytes be the same blocks of the storage as those of another file; False where that cannot be."""
        self._refuse_if_poisoned()
        if not isinstance(source, HostHandle):
            return False
        with _translated(self._path):
            return share_blocks((source.descriptor, source_offset), (self.descriptor, offset), length)

    def reserve(self, offset: int, length: int) -> None:
        """Take the space that a write there will need. Raises `RepositoryFull`; elsewhere without effect."""
        self._refuse_if_poisoned()
        with _translated(self._path):
            reserve_blocks(self._descriptor, offset, length)

    def trim(self) -> None:
        """Give back what was reserved behind the end of the file."""
        self._refuse_if_poisoned()
        with _translated(self._path):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size)

    def sync(self) -> None:
        """Return once everything written before is on stable storage, or poison the handle and raise."""
        self._refuse_if_poisoned()
        reach("file.sync")
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._poisoned = True
            if error.errno in _FULL:  # network file systems say so only here
                raise RepositoryFull(f"no space left for {self._path}") from error
            raise SyncFailed(f"sync of {self._path} failed: {error.strerror}") from error

    def size(self) -> int:
        """Return the length of the file in bytes."""
        with _translated(self._path):
            return os.fstat(self._descriptor).st_size

    def forget(self, offset: int, length: int) -> None:
        """Let go of what the kernel has cached of some bytes and that is on the medium."""
        with _translated(self._path):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def lock(self, *, shared: bool = False) -> bool:
        """Try to become the only holder of the file's lock, or wait to become one of several."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB
        with _translated(self._path):
            try:
                fcntl.flock(self._descriptor, kind)
            except BlockingIOError:
                return False
            return True

    def close(self) -> None:
        """Close the file. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with _translated(self._path):
                os.close(descriptor)  # gone after this, also when it reports an error

    def _refuse_if_poisoned(self) -> None:
        if self._poisoned:
            raise SyncFailed(f"{self._path} is not written any more after a failed sync")


class HostFiles:
    """The file systems of the host."""

    def open(self, path: Path, *, write: bool = False) -> FileHandle:
        """Open an existing file."""
        with _translated(path):
            flags = os.O_RDWR if write else os.O_RDONLY
            return HostHandle(path, os.open(path, flags | os.O_CLOEXEC))

    def create(self, path: Path) -> FileHandle:
        """Make a new file, durable under its name, and open it for writing; it must not exist."""
        with _translated(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            handle = HostHandle(path, os.open(path, flags, 0o600))
            try:
                _sync_folder(path.parent)
            except BaseException:
                handle.close()
                raise
            return handle

    def open_lock(self, path: Path) -> FileHandle:
        """Open a lock file, making it when it is not there."""
        with _translated(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            return HostHandle(path, os.open(path, flags, 0o600))

    def read(self, path: Path) -> bytes:
        """Return the whole content of a small file."""
        with _translated(path):
            return path.read_bytes()

    def replace(self, path: Path, data: bytes) -> None:
        """Put ``data`` under ``path`` as a whole; after a crash the old or the new content is there."""
        temporary = path.with_name(path.name + ".new")
        with _translated(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            handle = HostHandle(temporary, os.open(temporary, flags, 0o600))
            try:
                handle.write(0, [data])
                reach("replace.written")
                handle.sync()
                if handle.read(0, len(data) + 1) != data:
                    raise StoreFailed(f"{temporary} does not read back as written")
            finally:
                handle.close()
            reach("replace.synced")
            temporary.rename(path)
            reach("replace.renamed")
            _sync_folder(path.parent)

    def rename(self, path: Path, new: Path) -> None:
        """Move a file inside its folder, durably."""
        with _translated(path):
            path.rename(new)
            _sync_folder(new.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, durably; nothing happens when it is gone."""
        with _translated(path):
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents, durably; nothing happens when it is there."""
        with _translated(path):
            missing = []
            while not path.is_dir():
                missing.append(path)
                path = path.parent
            for folder in reversed(missing):
                folder.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(folder.parent)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder, durably; nothing happens when it is gone."""
        with _translated(path):
            with suppress(FileNotFoundError):
                path.rmdir()
            _sync_folder(path.parent)

    def names(self, path: Path) -> list[str]:
        """Return the sorted names inside a folder."""
        with _translated(path):
            return sorted(os.listdir(path))  # noqa: PTH208 - names, not paths

    def exists(self, path: Path) -> bool:
        """Return whether a file or folder is there; an unreadable parent is an error, not an absence."""
        with _translated(path):
            try:
                path.stat()
            except FileNotFoundError:
                return False
            return True

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes can still be written to the file system that holds ``path``."""
        with _translated(path):
            facts = os.statvfs(path)
            return facts.f_bavail * facts.f_frsize


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise SyncFailed(f"sync of folder {path} failed: {error.strerror}") from error
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RepositoryFull(f"no space left for {path}") from error
        if error.errno in _GONE:
            raise RepositoryUnavailable(f"{path} cannot be reached: {error.strerror}") from error
        raise StoreFailed(f"{path}: {error.strerror}") from error
