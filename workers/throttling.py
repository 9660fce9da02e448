"""Keeps a process to the limits of its configuration file, also to those that are written into it meanwhile."""

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

from holdfast.errors import HoldfastError
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.throttling import Limits, RepositoryLimits
from workers.config import Settings, load_settings
from workers.throttling_settings import rules_of
from workers.throttling_status import StatusFile

_LOOK_S: Final = 0.2
"""How often the file, the time and the use of shares are looked at."""
_TOLD_EVERY: Final = 5
"""Looks until it is said again who is held."""

_Mark: TypeAlias = tuple[int, int, int] | None
"""What tells one state of a file from another; None when it cannot be looked at."""


def limits_of(settings: Settings) -> Limits:
    """Return everything in a configuration that holds transfers back."""
    return Limits(
        rules=rules_of(settings.throttling),
        repositories={
            one.name: RepositoryLimits(read_bytes_s=one.read_limit or None, write_bytes_s=one.write_limit or None)
            for one in settings.repositories
        },
    )


class ThrottleKeeper:
    """Tends a throttle from `__enter__` to `__exit__`, and gives it what changes in the configuration ``file``.

    ``status`` is told who is held.

    A file is read again when it was the same twice: nobody shall be held to one that is half written. One that cannot
    be used changes nothing. ``say`` is told either way.
    """

    def __init__(
        self,
        throttle: Throttle,
        file: Path | None,
        say: Callable[[str], None],
        status: StatusFile | None = None,
        *,
        load: Callable[[Path], Settings] = load_settings,
    ) -> None:
        self._throttle = throttle
        self._file = file
        self._say = say
        self._status = status
        self._looks = 0
        self._load = load
        self._read = self._seen = _mark(file)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="throttle", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._ended.set()
        self._thread.join()
        if self._status is not None:
            self._status.remove()

    def look(self) -> None:
        """Look once at everything that may have changed."""
        mark = _mark(self._file)
        if mark is not None and mark == self._seen and mark != self._read:
            self._read = mark
            self._read_again()
        self._seen = mark
        self._throttle.tick()
        if self._status is not None and self._looks % _TOLD_EVERY == 0:
            self._status.write(self._throttle.held())
        self._looks += 1

    def _keep(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.look()

    def _read_again(self) -> None:
        assert self._file is not None, "it has a mark"
        try:
            limits = limits_of(self._load(self._file))
        except HoldfastError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self._say(f"holdfast worker keeps its throttling rules and limits: {error.message}{hint}")
            return
        if limits != self._throttle.limits:
            self._throttle.change(limits)
            self._say(f"holdfast worker took throttling rules and limits from {self._file}: {_told(limits)}")


def _told(limits: Limits) -> str:
    """Return what limits there are."""
    words = [f"rule {rule.name} {rule.limit_bytes_s} bytes/s" for rule in limits.rules]
    for name, one in limits.repositories.items():
        words += [f"read limit of {name} {one.read_bytes_s} bytes/s"] if one.read_bytes_s else []
        words += [f"write limit of {name} {one.write_bytes_s} bytes/s"] if one.write_bytes_s else []
    return ", ".join(words) or "none"


def _mark(file: Path | None) -> _Mark:
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
