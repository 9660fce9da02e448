"""A file that appears under its name when it is whole, and never in place of another.

It is written beside its place as ``.NAME.part``, which is locked meanwhile. Whatever ends the work removes it; one that
a killed process left behind is taken over by the next.
"""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from holdfast.errors import DiskWriteFailed, RequestInvalid, TargetExists

_ONLY_OWNER = 0o600
"""Disks hold the secrets of their machines."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class PartFile:
    """The unfinished file, to be used as a block: leaving it removes what was not published."""

    def __init__(self, target: Path) -> None:
        self.target = Path(os.path.abspath(target))  # noqa: PTH100 - a link at its end is not to be followed
        self.path = self.target.with_name(f".{self.target.name}.part")
        self.second_path = self.target.with_name(f".{self.target.name}.part2")
        """For what is made from the first one."""
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Make the file. Raises `TargetExists`, `DiskWriteFailed`, and `RequestInvalid` when another process has it."""
        self._check_free()
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _ONLY_OWNER)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_ours()
            os.ftruncate(self._descriptor, 0)
            self.second_path.unlink(missing_ok=True)
        except BlockingIOError as error:
            self._close()
            raise RequestInvalid(f"{self.target} is being written by another process") from error
        except OSError as error:
            self._close()
            raise DiskWriteFailed(f"making {self.path}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was not published."""
        for path in (self.second_path, self.path):
            with suppress(OSError):  # the next one to write the same file removes it
                path.unlink(missing_ok=True)
        self._close()

    def resize(self, size_bytes: int) -> None:
        """Make the file a hole of this size. Raises `DiskWriteFailed`."""
        try:
            os.ftruncate(self._descriptor, size_bytes)
        except OSError as error:
            raise DiskWriteFailed(f"making {self.path} {size_bytes} bytes long: {error.strerror}") from error

    def write(self, content: bytes) -> None:
        """Make this the content of the file, which is small. Raises `DiskWriteFailed`."""
        try:
            self.path.write_bytes(content)
        except OSError as error:
            raise DiskWriteFailed(f"writing {self.path}: {error.strerror}") from error

    def free_bytes(self) -> int:
        """Return how much can still be written where the file is."""
        facts = os.fstatvfs(self._descriptor)
        return facts.f_bavail * facts.f_frsize

    def publish(self, path: Path) -> None:
        """Flush one of the two files and give it its name. Raises `TargetExists`, `DiskWriteFailed`."""
        try:
            _sync(path)
            path.chmod(_ONLY_OWNER)
            self._name(path)
            _sync(self.target.parent)
        except FileExistsError as error:
            raise _taken(self.target) from error
        except OSError as error:
            raise DiskWriteFailed(f"naming {self.target}: {error.strerror}") from error

    def _name(self, path: Path) -> None:
        try:
            os.link(path, self.target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._check_free()
            path.rename(self.target)

    def _check_free(self) -> None:
        if os.path.lexists(self.target):
            raise _taken(self.target)

    def _check_ours(self) -> None:
        """Raise `BlockingIOError` when the file was removed by who had it before us."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            raise BlockingIOError from None
        if found.st_ino != os.fstat(self._descriptor).st_ino:
            raise BlockingIOError

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _taken(target: Path) -> TargetExists:
    return TargetExists(f"{target} is there already", hint="Name another file; nothing is overwritten.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
