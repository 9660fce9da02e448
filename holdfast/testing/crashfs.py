"""A model of a file system that can crash.

It stands behind the ports of `holdfast.storage.files.atomic`. Every file has an image on stable storage and an ordered
list of writes that no flush has covered yet; names are changed by operations that count only when their folder was
flushed.
Everything that happens is logged; `holdfast.testing.crash_states` tells from the log what a crash may leave.

Faults that are no crash: a flush that fails and drops what it should have written, though reads go on showing it; a
quota; reads that return other bytes than those of their place.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from holdfast.errors import RepositoryFull, RepositoryUnavailable, StoreFailed, SyncFailed
from holdfast.storage.files.atomic import Buffer, FileHandle

SECTOR = 512


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. ``inode`` and ``path`` say to what; ``data`` belongs at ``offset``."""

    kind: str
    """create, folder, write, truncate, sync, failed-sync, link, unlink, rename, rename-folder, unlink-folder,
    sync-folder or mark."""
    inode: int = 0
    path: Path = Path()
    offset: int = 0
    data: bytes = b""
    label: str = ""
    kept: tuple[int, ...] = ()
    """Of a failed flush: which of the waiting writes reached the storage all the same."""


class CrashFiles:
    """The file system; implements `Files`. Safe to use from several threads."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        self.events: list[Event] = []
        self.quota: int | None = None
        """Bytes that all files together may have; None for no bound."""
        self.fail_sync: Callable[[int, int], tuple[int, ...] | None] = lambda _number, _waiting: None
        """Gets the number of a flush and of the writes it should make durable; a tuple makes it fail and keep these."""
        self.after_event: Callable[[int], None] = lambda _count: None
        """Gets the number of events so far after each one; what it raises ends the operation there."""
        self.overlay: dict[tuple[Path, int], bytes] = {}
        """What reads of a sector return in place of its bytes, by path and number of the sector."""
        self.can_share = False
        """Whether files can have blocks in common; they are written as any others are."""
        self.shared = 0
        """Bytes that were shared."""
        self.syncs = 0
        self.open_handles: set[CrashHandle] = set()
        self.folders: set[Path] = set(folders)
        self.entries: dict[Path, int] = {}
        """Which file stands under which name, by its number."""
        self._inside: dict[Path, set[str]] | None = None
        """The names inside each folder; None when they have to be looked up again."""
        self.images: dict[int, bytearray] = {}
        """What reads of each file show."""
        self._waiting: dict[int, int] = {}
        self._locks: dict[int, dict[CrashHandle, bool]] = {}
        self._guard = threading.RLock()

    # -- the port ------------------------------------------------------------------------------------------------

    def open(self, path: Path, *, write: bool = False) -> FileHandle:
        """Open an existing file."""
        del write
        with self._guard:
            return self._handle(path, self._inode(path))

    def create(self, path: Path) -> FileHandle:
        """Make a new file, durable under its name."""
        with self._guard:
            if path in self.entries:
                raise StoreFailed(f"{path}: File exists")
            inode = self._link_new(path)
            self._sync_folder(path.parent)
            return self._handle(path, inode)

    def open_lock(self, path: Path) -> FileHandle:
        """Open a lock file, making it when it is not there."""
        with self._guard:
            inode = self.entries.get(path)
            return self._handle(path, self._link_new(path) if inode is None else inode)

    def read(self, path: Path) -> bytes:
        """Return the whole content of a file."""
        with self._guard:
            inode = self._inode(path)
            return self._seen(path, inode, 0, len(self.images[inode]))

    def replace(self, path: Path, data: bytes) -> None:
        """Put ``data`` under ``path``, by way of a temporary name."""
        temporary = path.with_name(path.name + ".new")
        with self._guard:
            inode = self.entries.get(temporary)
            if inode is None:
                inode = self._link_new(temporary)
            else:
                self.images[inode].clear()
                self._waiting[inode] = self._waiting.get(inode, 0) + 1
                self._log(Event("truncate", inode, temporary))
            self.write_inode(inode, temporary, 0, data)
            self.sync_inode(inode, temporary)
            self._move(temporary, path)

    def rename(self, path: Path, new: Path) -> None:
        """Move a file inside its folder, durably; or a folder with all that is in it."""
        with self._guard:
            if path in self.folders:
                self._log(Event("rename-folder", path=new, label=str(path)))
                move_folder(self.entries, self.folders, path, new)
                self._inside = None
                self._sync_folder(new.parent)
                return
            self._inode(path)
            self._move(path, new)

    def remove(self, path: Path) -> None:
        """Remove a file, durably."""
        with self._guard:
            if self.entries.pop(path, None) is not None:
                self._took_away(path)
                self._log(Event("unlink", path=path))
            self._sync_folder(path.parent)

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents, durably."""
        with self._guard:
            for folder in [*reversed(path.parents), path]:
                if folder not in self.folders:
                    self.folders.add(folder)
                    self._put(folder)
                    self._log(Event("folder", path=folder))
                    self._sync_folder(folder.parent)

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder, durably; nothing happens when it is gone."""
        with self._guard:
            if path in self.folders:
                if self.names(path):
                    raise StoreFailed(f"{path}: Directory not empty")
                self.folders.discard(path)
                self._took_away(path)
                self._log(Event("unlink-folder", path=path))
            self._sync_folder(path.parent)

    def names(self, path: Path) -> list[str]:
        """Return the sorted names inside a folder."""
        with self._guard:
            if path not in self.folders:
                raise RepositoryUnavailable(f"{path} cannot be reached: No such file or directory")
            if self._inside is None:
                self._inside = {}
                for found in (*self.entries, *self.folders):
                    self._put(found)
            return sorted(self._inside.get(path, ()))

    def exists(self, path: Path) -> bool:
        """Return whether a file or folder is there."""
        with self._guard:
            return path in self.entries or path in self.folders

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes can still be written."""
        del path
        with self._guard:
            used = sum(len(image) for image in self.images.values())
            return (1 << 50) if self.quota is None else max(0, self.quota - used)

    # -- for tests -----------------------------------------------------------------------------------------------

    def mark(self, label: str) -> None:
        """Write down that something was told to the outside at this moment."""
        with self._guard:
            self._log(Event("mark", label=label))

    def content(self, path: Path) -> bytes:
        """Return what reads of a file would show."""
        return bytes(self.images[self._inode(path)])

    def set_content(self, path: Path, data: bytes) -> None:
        """Put other bytes under a path, as damage that no writer made; the file appears when it is not there."""
        if path in self.entries:
            self.images[self.entries[path]] = bytearray(data)
        else:
            self.images[self._link_new(path)] = bytearray(data)

    def drop(self, path: Path) -> None:
        """Let a file vanish, or a folder with all that is in it."""
        self.entries = {name: inode for name, inode in self.entries.items() if not name.is_relative_to(path)}
        self.folders = {folder for folder in self.folders if not folder.is_relative_to(path)}
        self._inside = None

    def paths(self) -> list[Path]:
        """Return all files, sorted."""
        return sorted(self.entries)

    def copy(self) -> "CrashFiles":
        """Return a file system with the same content, all of it durable, and nothing open."""
        other = CrashFiles(self.folders)
        other.entries = dict(self.entries)
        other.images = {inode: bytearray(self.images[inode]) for inode in other.entries.values()}
        return other

    # -- for handles ---------------------------------------------------------------------------------------------

    def write_inode(self, inode: int, path: Path, offset: int, data: bytes) -> None:
        """Write to a file; with a quota what still fits is written before the error."""
        with self._guard:
            image = self.images[inode]
            growth = max(0, offset + len(data) - len(image))
            fits = len(data) if self.quota is None else len(data) - max(0, growth - self.free_bytes(path))
            part = data[: max(0, fits)]
            if part:
                image.extend(bytes(max(0, offset + len(part) - len(image))))
                image[offset : offset + len(part)] = part
                self._waiting[inode] = self._waiting.get(inode, 0) + 1
                self._log(Event("write", inode, path, offset, part))
            if len(part) < len(data):
                raise RepositoryFull(f"no space left for {path}")

    def sync_inode(self, inode: int, path: Path) -> None:
        """Make what was written to a file durable."""
        with self._guard:
            self.syncs += 1
            kept = self.fail_sync(self.syncs, self._waiting.get(inode, 0))
            self._waiting[inode] = 0
            if kept is not None:
                self._log(Event("failed-sync", inode, path, kept=kept))
                raise SyncFailed(f"sync of {path} failed: Input/output error")
            self._log(Event("sync", inode, path))

    def read_inode(self, inode: int, path: Path, offset: int, length: int) -> bytes:
        """Return bytes of a file as a read shows them."""
        with self._guard:
            return self._seen(path, inode, offset, length)

    def size_inode(self, inode: int) -> int:
        """Return the length of a file."""
        with self._guard:
            return len(self.images[inode])

    def lock_inode(self, inode: int, handle: "CrashHandle", *, shared: bool = False) -> bool:
        """Give a lock to a handle, unless another one has it and it cannot be shared."""
        with self._guard:
            others = {held: is_shared for held, is_shared in self._locks.get(inode, {}).items() if held is not handle}
            if (not shared and others) or not all(others.values()):
                return False
            self._locks[inode] = {**others, handle: shared}
            return True

    def close_handle(self, inode: int, handle: "CrashHandle") -> None:
        """Forget a handle and its lock."""
        with self._guard:
            self.open_handles.discard(handle)
            self._locks.get(inode, {}).pop(handle, None)

    # -- inside --------------------------------------------------------------------------------------------------

    def _handle(self, path: Path, inode: int) -> "CrashHandle":
        handle = CrashHandle(self, path, inode)
        self.open_handles.add(handle)
        return handle

    def _inode(self, path: Path) -> int:
        inode = self.entries.get(path)
        if inode is None:
            raise RepositoryUnavailable(f"{path} cannot be reached: No such file or directory")
        return inode

    def _link_new(self, path: Path) -> int:
        if path.parent not in self.folders:
            raise RepositoryUnavailable(f"{path} cannot be reached: No such file or directory")
        inode = max(self.images, default=0) + 1
        self.images[inode] = bytearray()
        self.entries[path] = inode
        self._put(path)
        self._log(Event("link", inode, path))
        return inode

    def _move(self, path: Path, new: Path) -> None:
        inode = self.entries[new] = self.entries.pop(path)
        self._took_away(path)
        self._put(new)
        self._log(Event("rename", inode, new, label=str(path)))
        self._sync_folder(new.parent)

    def _put(self, path: Path) -> None:
        """Count a file or folder among the names of the folder that it is in; the root is in none."""
        if self._inside is not None and path.name:
            self._inside.setdefault(path.parent, set()).add(path.name)

    def _took_away(self, path: Path) -> None:
        if self._inside is not None:
            self._inside[path.parent].discard(path.name)

    def _sync_folder(self, path: Path) -> None:
        self._log(Event("sync-folder", path=path))

    def _seen(self, path: Path, inode: int, offset: int, length: int) -> bytes:
        data = bytes(self.images[inode][offset : offset + length])
        if not self.overlay:
            return data
        changed = bytearray(data)
        for (where, sector), instead in self.overlay.items():
            start = sector * SECTOR - offset
            if where == path and -SECTOR < start < len(changed):
                low, high = max(0, start), min(len(changed), start + SECTOR)
                changed[low:high] = instead[low - start : high - start]
        return bytes(changed)

    def _log(self, event: Event) -> None:
        self.events.append(event)
        self.after_event(len(self.events))


class CrashHandle:
    """An open file of the model; implements `FileHandle`."""

    def __init__(self, files: CrashFiles, path: Path, inode: int) -> None:
        self._files = files
        self._path = path
        self._inode = inode
        self._poisoned = False

    @property
    def path(self) -> Path:
        """Where the file was opened."""
        return self._path

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes."""
        return self._files.read_inode(self._inode, self._path, offset, length)

    def write(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write all buffers, one behind the other."""
        self._refuse_if_poisoned()
        self._files.write_inode(self._inode, self._path, offset, b"".join(buffers))

    def share(self, offset: int, source: FileHandle, source_offset: int, length: int) -> bool:
        """Let bytes be those of another file, when the model is asked to be able to: a write, as crashes go."""
        self._refuse_if_poisoned()
        if not self._files.can_share:
            return False
        self._files.shared += length
        self._files.write_inode(self._inode, self._path, offset, source.read(source_offset, length))
        return True

    def reserve(self, offset: int, length: int) -> None:
        """Raise `RepositoryFull` when the bytes cannot be written; the model holds nothing for anyone."""
        growth = max(0, offset + length - self.size())
        if self._files.free_bytes(self._path) < growth:
            raise RepositoryFull(f"no space left for {self._path}")

    def trim(self) -> None:
        """Give back nothing, for nothing was held."""

    def sync(self) -> None:
        """Make everything written before durable, or poison the handle."""
        self._refuse_if_poisoned()
        try:
            self._files.sync_inode(self._inode, self._path)
        except SyncFailed:
            self._poisoned = True
            raise

    def size(self) -> int:
        """Return the length of the file."""
        return self._files.size_inode(self._inode)

    def forget(self, offset: int, length: int) -> None:
        """Do nothing: the model has no cache."""

    def lock(self, *, shared: bool = False) -> bool:
        """Try to become the only holder of the file's lock, or one of several."""
        return self._files.lock_inode(self._inode, self, shared=shared)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._files.close_handle(self._inode, self)

    def _refuse_if_poisoned(self) -> None:
        if self._poisoned:
            raise SyncFailed(f"{self._path} is not written any more after a failed sync")


def move_folder(names: dict[Path, int], folders: set[Path], path: Path, new: Path) -> None:
    """Give a folder another name, and with it all that is in it."""
    for name in [name for name in names if name.is_relative_to(path)]:
        names[new / name.relative_to(path)] = names.pop(name)
    for folder in [folder for folder in folders if folder.is_relative_to(path)]:
        folders.discard(folder)
        folders.add(new / folder.relative_to(path))
