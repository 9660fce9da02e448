"""Faults for product code that runs on the host: death at a named point, and system calls that fail.

Nothing here is part of a running product; test drivers set it up.
"""

import errno
import io
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import cast
from unittest import mock

import msgspec
from typing_extensions import override


class HitCounter:
    """A hook for `holdfast.faults.set_hook` that counts how often each point is passed."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self._guard = threading.Lock()

    def __call__(self, name: str) -> None:
        """Count a point."""
        with self._guard:
            self.hits[name] += 1


class KillAt(HitCounter):
    """A hook that ends the process without any clean-up at the ``hit``-th pass of the point ``name``."""

    def __init__(self, name: str, hit: int) -> None:
        super().__init__()
        self._name = name
        self._hit = hit

    @override
    def __call__(self, name: str) -> None:
        """Count a point, and die if it is the one."""
        super().__call__(name)
        if name == self._name and self.hits[name] == self._hit:
            os.kill(os.getpid(), signal.SIGKILL)


class SystemFault(msgspec.Struct, frozen=True, kw_only=True):
    """Which call fails and how. ``kind`` is write, sync, read, rename, remove or open."""

    kind: str
    number: int
    """The how many-th call of the kind, from 1."""
    error: int = errno.EIO
    """What it fails with; 0 makes a write come out short instead, without an error."""
    is_sticky: bool = False
    """All later calls of the kind fail too."""


class FailingSystem:
    """Counts system calls on files below ``root`` and lets those fail that ``fault`` names."""

    def __init__(self, root: Path, fault: SystemFault | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.failed = 0
        self._root = str(root)
        self._fault = fault
        self._guard = threading.Lock()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Stand between the process and the system inside a block."""
        wrapped: list[tuple[ModuleType, str, str]] = [
            (os, "pwritev", "write"),
            (os, "fdatasync", "sync"),
            (os, "fsync", "sync"),
            (os, "pread", "read"),
            (os, "rename", "rename"),
            (os, "unlink", "remove"),
            (os, "open", "open"),
            (io, "open", "open"),
        ]
        patches = [mock.patch.object(owner, name, self._wrapper(owner, name, kind)) for owner, name, kind in wrapped]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()

    def _wrapper(self, owner: ModuleType, name: str, kind: str) -> Callable[..., object]:
        real: Callable[..., object] = getattr(owner, name)

        def call(target: int | str | Path, *arguments: object, **options: object) -> object:
            error = self._error(kind) if self._is_ours(target) else None
            if error is None:
                return real(target, *arguments, **options)
            if error == 0:
                buffers, offset = cast("tuple[list[memoryview], int]", arguments)
                return real(target, [buffers[0][: len(buffers[0]) // 2]], offset)
            raise OSError(error, os.strerror(error))

        return call

    def _is_ours(self, target: int | str | Path) -> bool:
        path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
        return str(path).startswith(self._root)

    def _error(self, kind: str) -> int | None:
        with self._guard:
            self.calls[kind] += 1
            fault, number = self._fault, self.calls[kind]
            if fault is None or fault.kind != kind or number < fault.number:
                return None
            if number > fault.number and not fault.is_sticky:
                return None
            self.failed += 1
            return fault.error


def open_below(root: Path) -> list[str]:
    """Return the files below ``root`` that this process holds open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # the descriptor of this very listing
        if target.startswith(str(root)):
            found.append(target)
    return sorted(found)
