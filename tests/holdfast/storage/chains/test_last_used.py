"""When a repository was last used: written seldom, never by a clock that jumped, and confirmed by somebody."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.errors import ChainBusy, ClockJumped, RepositoryFull
from holdfast.planning.clock_jump import ClockState
from holdfast.storage.chains.last_used import LAST_USED_NAME, accept_clock, check_clock, look_at_clock, note_used
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles

START = datetime(2026, 11, 21, 3, tzinfo=UTC)
DAYS = 14


class SetClock:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.moment = START

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return 0.0


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "repository", HostFiles(), "id", START)


def kept(repository: Repository) -> bytes:
    return repository.files.read(repository.root / LAST_USED_NAME)


def test_it_is_written_at_most_once_an_hour(repository: Repository, clock: SetClock) -> None:
    assert note_used(repository, clock, DAYS).is_steady
    first = kept(repository)
    clock.moment += timedelta(minutes=59)
    check_clock(repository, clock, DAYS)
    assert kept(repository) == first
    clock.moment += timedelta(minutes=1)
    check_clock(repository, clock, DAYS)
    assert look_at_clock(repository, clock, DAYS).seen == clock.moment


@pytest.mark.parametrize("jump", [timedelta(days=15), timedelta(days=-1), timedelta(days=4000)])
def test_a_jump_is_refused_until_somebody_confirms_it(repository: Repository, clock: SetClock, jump: timedelta) -> None:
    check_clock(repository, clock, DAYS)
    clock.moment += jump
    for _ in range(2):  # what was refused once is no use that the next look could go on from
        with pytest.raises(ClockJumped, match="2026-11-21T03:00"):
            check_clock(repository, clock, DAYS)
    accept_clock(repository, clock)
    check_clock(repository, clock, DAYS)


def test_a_clock_that_is_set_right_again_needs_nobody(repository: Repository, clock: SetClock) -> None:
    check_clock(repository, clock, DAYS)
    clock.moment += timedelta(days=400)
    assert note_used(repository, clock, DAYS).state is ClockState.AHEAD
    clock.moment = START + timedelta(days=1)
    check_clock(repository, clock, DAYS)


@pytest.mark.parametrize("content", [b"", b"nothing", b'{"format":1}', b'{"format":1,"at":"2026-11-21T03:00:00"}'])
def test_what_cannot_be_read_is_asked_about(repository: Repository, clock: SetClock, content: bytes) -> None:
    repository.files.replace(repository.root / LAST_USED_NAME, content)
    with pytest.raises(ClockJumped, match="cannot be read"):
        check_clock(repository, clock, DAYS)
    assert accept_clock(repository, clock).is_steady
    check_clock(repository, clock, DAYS)


def test_somebody_else_who_writes_it_keeps_nobody_waiting(repository: Repository, clock: SetClock) -> None:
    lock = repository.files.open_lock(repository.root / f"{LAST_USED_NAME}.lock")
    try:
        assert lock.lock()
        check_clock(repository, clock, DAYS)
        assert not repository.files.exists(repository.root / LAST_USED_NAME)
        with pytest.raises(ChainBusy):
            accept_clock(repository, clock)
    finally:
        lock.close()


class _Full(HostFiles):
    """Has no room for anything."""

    @override
    def replace(self, path: Path, data: bytes) -> None:
        raise RepositoryFull("no space")


def test_a_full_repository_can_be_purged(repository: Repository, clock: SetClock) -> None:
    check_clock(Repository(repository.root, _Full(), repository.marker), clock, DAYS)
    check_clock(repository, clock, DAYS)
