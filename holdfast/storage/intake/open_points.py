"""Points that this process is writing: each is opened once, whatever the number of its disks on their way."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from holdfast.storage.chain_files.group_commit import CommitGroup
from holdfast.storage.chains.chain import Chain


class SharedPoint(NamedTuple):
    """A point that is being written, and the chain of its parent point when it has one."""

    group: CommitGroup
    chain: Chain | None


PointOpener = Callable[[ExitStack], SharedPoint]
"""Opens a point; what is opened is closed with the stack."""


class OpenPoints:
    """The points that are open for writing in one process, by the path of their file. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Path, _Entry] = {}

    @contextmanager
    def using(self, path: Path, opener: PointOpener) -> Iterator[SharedPoint]:
        """Give a point that is open, or open it; it is closed behind the last of those who use it."""
        with self._lock:
            entry = self._entries.setdefault(path, _Entry())
            entry.users += 1
        try:
            yield entry.opened(opener)
        finally:
            self._let_go(path, entry)

    def _let_go(self, path: Path, entry: "_Entry") -> None:
        with entry.lock:
            with self._lock:
                entry.users -= 1
                is_last = entry.users == 0
            if is_last:
                entry.close()  # who comes meanwhile waits, and opens it anew
        with self._lock:
            if not entry.users and self._entries.get(path) is entry:
                del self._entries[path]


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self._point: SharedPoint | None = None
        self._stack = ExitStack()

    def opened(self, opener: PointOpener) -> SharedPoint:
        """Return the point, opened by the first who asks; the others wait."""
        with self.lock:
            if self._point is None:
                with ExitStack() as stack:
                    self._point = opener(stack)
                    self._stack = stack.pop_all()
            return self._point

    def close(self) -> None:
        self._point = None
        self._stack.close()
