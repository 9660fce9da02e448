"""When a repository was last used, kept beside its marker: what the clock of a host is compared with.

Only who puts the whole repository back to an earlier state puts this back, too. Without the file the repository counts
as never used.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import ChainBusy, ClockJumped, RepositoryError
from holdfast.planning.clock_jump import ClockSight, ClockState, judge_clock
from holdfast.storage.chains.repository import Repository

LAST_USED_NAME: Final = "last-used.json"
_LOCK_NAME: Final = LAST_USED_NAME + ".lock"


class LastUsed(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the file."""

    format: int = 1
    at: datetime
    """By the clock of the host that used it, in UTC."""


_LAST_USED_DECODER: Final = msgspec.json.Decoder(LastUsed)


def look_at_clock(repository: Repository, clock: Clock, ahead_days: int) -> ClockSight:
    """Return what the clock looks like from a repository; nothing is changed."""
    path = repository.root / LAST_USED_NAME
    now = clock.now()
    if not repository.files.exists(path):
        return judge_clock(None, now, ahead_days)
    try:
        seen = _LAST_USED_DECODER.decode(repository.files.read(path)).at
        return judge_clock(seen, now, ahead_days)
    except (msgspec.DecodeError, TypeError):  # the second for a time without its zone
        return ClockSight(state=ClockState.UNKNOWN, now=now)


def note_used(repository: Repository, clock: Clock, ahead_days: int) -> ClockSight:
    """Return what the clock looks like, and keep now as the last time when it can be trusted and an hour has passed."""
    sight = look_at_clock(repository, clock, ahead_days)
    if sight.is_to_be_noted:
        # Without harm: the next one notes it, and where none can the clock is asked about too early. A repository that
        # is full could not be purged otherwise, and somebody else who writes it right now writes the same.
        with suppress(RepositoryError):
            _write(repository, lambda: look_at_clock(repository, clock, ahead_days))
    return sight


def accept_clock(repository: Repository, clock: Clock) -> ClockSight:
    """Keep now as the last time, whatever stands there. Raises `ChainBusy`."""
    _write(repository, lambda: judge_clock(None, clock.now(), 0))
    return look_at_clock(repository, clock, 1)


def check_clock(repository: Repository, clock: Clock, ahead_days: int) -> None:
    """Raise `ClockJumped` unless the clock can be trusted, and note that the repository was used."""
    sight = note_used(repository, clock, ahead_days)
    if not sight.is_steady:
        raise jumped(sight)


def jumped(sight: ClockSight) -> ClockJumped:
    """Return the error that says what is seen of a clock that cannot be trusted."""
    return ClockJumped(f"nothing is removed, merged or purged, and no lock ends: {sight.words}")


def _write(repository: Repository, look: Callable[[], ClockSight]) -> None:
    files, root = repository.files, repository.root
    lock = files.open_lock(root / _LOCK_NAME)
    try:
        if not lock.lock():
            raise ChainBusy(f"{root / LAST_USED_NAME} is being written by another session")
        sight = look()  # somebody else may have written a later one since
        if sight.is_to_be_noted:
            files.replace(root / LAST_USED_NAME, msgspec.json.encode(LastUsed(at=sight.now)))
    finally:
        lock.close()
