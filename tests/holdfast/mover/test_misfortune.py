"""What befalls a host and not the line: a full repository, a clock that jumps, a process that dies at any moment."""

import os
import random
import signal
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import LinkRefused, RepositoryFull
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.mover.file_transfer import put_remote_files
from holdfast.mover.sockets import Address
from holdfast.pipeline.restore import DiskRestore
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import MIB, Setting, Site
from tests.holdfast.mover.process import PIPE
from tests.holdfast.mover.test_kill import Process, begun, dialling, finish
from tests.holdfast.providers.local.mounts import mounted_tmpfs

FILES = MachineFiles(files=(MachineFile(name="web.nvram", content=random.Random(3).randbytes(MIB)),))

# -- a repository that fills up ----------------------------------------------------------------------------------------


def test_a_repository_that_fills_up_fails_in_words_and_goes_on_where_it_was_once_there_is_room(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 24 * MIB) as place:
        site = Site(place / "repository", {"a": 4 * MIB}, Setting(pipe=msgspec.structs.replace(PIPE, commit_new_bytes=MIB)))
        ballast = place / "ballast"
        with site.server() as server:
            first = site.begin()
            site.transfer(server.address, site.access(first))
            site.finish(first)
            second = site.begin()
            access = site.access(second)
            ballast.write_bytes(bytes(free(place) - 2 * MIB))
            for attempt in (1, 2):
                with pytest.raises(RepositoryFull, match="no space left") as caught:
                    site.transfer(server.address, access, attempt)
                assert caught.value.retryable  # a session waits, and tries again
                assert site.is_free(second)
                assert site.machine.differences() == []  # what was complete can be read
            ballast.unlink()
            writable = site.sink(server.address, access, 3)
            assert writable.sink.standing.committed > 0
            figures = site.copy(writable, site.reader())
            assert figures.resent_bytes <= 4 * MIB - writable.sink.unit_size
        site.finish(second)


def test_machine_files_that_find_no_room_are_refused_in_words(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 8 * MIB) as place:
        site = Site(place / "repository", {"a": MIB})
        opened = site.begin()
        grant = site.issuer.issue(site.grant(opened, ""))
        ballast = place / "ballast"
        ballast.write_bytes(bytes(free(place) - (64 << 10)))
        with site.server() as server:
            with pytest.raises(RepositoryFull):
                put_remote_files(site.line(server.address, grant), grant.grant, FILES)
            ballast.unlink()
            put_remote_files(site.line(server.address, grant, 2), grant.grant, FILES)
            site.transfer(server.address, site.access(opened))
        site.finish(opened)
        assert site.read_files(site.grant(opened, "")) == FILES


def free(place: Path) -> int:
    """Return the bytes that are free in a file system."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_bsize


# -- a clock that jumps ------------------------------------------------------------------------------------------------


class JumpingClock(SystemClock):
    """A wall clock that somebody sets, again and again."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self._rng = random.Random(5)

    def now(self) -> datetime:
        self.jump(self._rng.choice((-400, -1, 1, 400)))
        return datetime.now(UTC) + self.ahead

    def jump(self, days: float) -> None:
        self.ahead = timedelta(days=days)


def test_a_wall_clock_that_jumps_harms_nothing_that_is_at_work(tmp_path: Path) -> None:
    clock = JumpingClock()
    site = Site(tmp_path / "repository", {"a": 4 * MIB}, Setting(clock=clock))
    opened = site.begin()
    access = site.issuer.issue(site.grant(opened, valid_s=500 * 86400))
    with site.server() as server:
        site.copy(site.sink(server.address, access), site.reader(), lambda _: clock.now() and None)
        site.finish(opened)
        reading = site.issuer.issue(msgspec.structs.replace(site.grant(opened, valid_s=500 * 86400), writes_file=None))
        source = site.source(server.address, reading)
        target = MemoryDisk(bytes(source.size_bytes))
        DiskRestore(source, target, source.digest_key, clock).run(0, lambda _: clock.now() and None)
        source.close()
    assert bytes(target.content) == site.machine.disks["a"].read(Span(0, 4 * MIB))


def test_a_grant_ends_by_the_clock_of_the_repository_alone_and_only_new_sessions_hear_of_it(tmp_path: Path) -> None:
    clock = SetClock()
    site = Site(tmp_path / "repository", {"a": 4 * MIB}, Setting(clock=clock))
    opened = site.begin()
    access = site.issuer.issue(site.grant(opened, valid_s=14 * 86400))
    with site.server() as server:
        clock.ahead = timedelta(days=-30)  # the clock was put right after the grant was made: it lasts longer
        writable = site.sink(server.address, access)
        clock.ahead = timedelta(days=15)  # in the middle of the work it has no say
        site.copy(writable, site.reader())
        with pytest.raises(LinkRefused, match="has expired"):
            site.sink(server.address, site.issuer.issue(site.grant(opened, valid_s=14 * 86400)))
    site.finish(opened)


class SetClock(SystemClock):
    """A wall clock that is wrong by some time."""

    ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


# -- processes that die ------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("run", range(6))
def test_both_sides_are_killed_at_random_moments_and_the_disk_arrives(tmp_path: Path, seed: int, run: int) -> None:
    rng = random.Random(seed + run)
    site, opened = begun(tmp_path)
    access, attempt, kills = site.access(opened), 0, 0
    with ExitStack() as stack:
        listener = stack.enter_context(Process("listen", site.repository.root, 0, 0))
        address = Address("127.0.0.1", int(next(listener.lines())))
        figures: Figures | None = None
        while figures is None:
            attempt += 1
            assert attempt < 60, "it does not get on"
            dialler = dialling(stack, site, address, access, attempt)
            # The first attempts are killed, at any moment: at the start, in the greeting, in the middle, at the end.
            dies = rng.choice((0, rng.randrange(200), rng.randrange(2000))) if kills < 8 else None
            *_, last = ["", *(line for number, line in enumerate(dialler.lines()) if not stopped(number, dies, dialler))]
            if dies is not None:
                kills += 1
            if dies is not None and rng.random() < 0.5:
                listener.kill()
                listener = stack.enter_context(Process("listen", site.repository.root, address.port, 0))
                next(listener.lines())
            figures = msgspec.json.decode(last, type=Figures) if last.startswith("{") else None
    print(f"{kills} kills, {attempt} attempts, {figures.resent_bytes >> 20} MiB sent again")  # noqa: T201
    finish(site, opened, figures)


def stopped(number: int, dies: int | None, process: Process) -> bool:
    """Kill a process once it has said so many lines; return False, for what it says is listened to."""
    if number == dies:
        process.process.send_signal(signal.SIGKILL)
    return False
