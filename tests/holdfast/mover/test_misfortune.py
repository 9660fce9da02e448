"""What befalls a host and not the line: a full repository, a clock that jumps, a process that dies at any moment."""

import os
import random
import threading
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import LinkRefused, RepositoryFull
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.points import OpenPoint
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.mover.file_transfer import put_remote_files
from holdfast.mover.sockets import Address
from holdfast.pipeline.restore import DiskRestore
from holdfast.testing.chains import restored
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import MIB, PIECE, Setting, Site, numbered
from tests.holdfast.mover.process import PIPE
from tests.holdfast.mover.test_kill import RESENT_MAX, SIZE, Process, begun, dialling
from tests.holdfast.mover.test_many_disks import UNIT
from tests.holdfast.providers.local.mounts import mounted_tmpfs

FILES = MachineFiles(files=(MachineFile(name="web.nvram", content=random.Random(3).randbytes(MIB)),))

# -- a repository that fills up ----------------------------------------------------------------------------------------


def test_a_repository_that_fills_up_fails_in_words_and_goes_on_where_it_was_once_there_is_room(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 24 * MIB) as place:
        site = Site(
            place / "repository", {"a": 4 * MIB}, Setting(pipe=msgspec.structs.replace(PIPE, commit_new_bytes=MIB))
        )
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


class SetClock(SystemClock):
    """A wall clock that is wrong by some time."""

    ahead = timedelta()

    @override
    def now(self) -> datetime:
        return super().now() + self.ahead


def test_a_wall_clock_that_jumps_harms_nothing_that_is_at_work(tmp_path: Path, seed: int) -> None:
    clock, rng = SetClock(), random.Random(seed)

    def jump(_: object) -> None:
        clock.ahead = timedelta(days=rng.choice((-400, -1, 1, 400)))

    site = Site(tmp_path / "repository", {"a": 4 * MIB}, Setting(clock=clock))
    opened = site.begin()
    access = site.issuer.issue(site.grant(opened, valid_s=500 * 86400))
    with site.server() as server:
        site.copy(site.sink(server.address, access), site.reader(), jump)
        site.finish(opened)
        reading = site.issuer.issue(msgspec.structs.replace(site.grant(opened, valid_s=500 * 86400), writes_file=None))
        source = site.source(server.address, reading)
        target = MemoryDisk(bytes(source.size_bytes))
        DiskRestore(source, target, source.digest_key, clock).run(0, jump)
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


# -- processes that die ------------------------------------------------------------------------------------------------


KILLS = 8
AT_RISK = PIPE.uncommitted_bytes_max + PIPE.commit_new_bytes
"""What was sent and is not durable when somebody dies."""
REPORTS = SIZE // UNIT
"""How often a dialling process says how far it is, at most."""


class Pairing:
    """Both sides of one disk as processes, and a chance that kills them."""

    def __init__(self, folder: Path, rng: random.Random, stack: ExitStack) -> None:
        self.site, self.opened = begun(folder)
        self.kills = self.attempts = 0
        self._rng = rng
        self._stack = stack
        self._access = self.site.access(self.opened)
        self._listener, self._address = self._listen(0)

    def attempt(self) -> Figures | None:
        """Try to bring the disk over; return its figures, or None when somebody was killed."""
        self.attempts += 1
        dialler = dialling(self._stack, self.site, self._address, self._access, self.attempts)
        if self.kills < KILLS and self._rng.random() < 0.25:
            threading.Event().wait(self._rng.random() * 1.5)  # as it starts, dials, greets, opens
            dialler.kill()
            self.kills += 1
        dies = self._rng.randrange(REPORTS) if self.kills < KILLS else -1
        last = ""
        for number, line in enumerate(dialler.lines()):
            last = line
            if number == dies:
                self._kill(dialler)
        return msgspec.json.decode(last, type=Figures) if last.startswith("{") else None

    def _kill(self, dialler: Process) -> None:
        """Kill either side, or both."""
        self.kills += 1
        who = self._rng.choice(("dialler", "listener", "both"))
        if who != "listener":
            dialler.kill()
        if who != "dialler":
            self._listener.kill()
            self._listener, _ = self._listen(self._address.port)

    def _listen(self, port: int) -> tuple[Process, Address]:
        listener = self._stack.enter_context(Process("listen", self.site.repository.root, port, 0))
        return listener, Address("127.0.0.1", int(next(listener.lines())))


@pytest.mark.soak
@pytest.mark.parametrize("run", range(6))
def test_both_sides_are_killed_at_random_moments_and_the_disk_arrives(tmp_path: Path, seed: int, run: int) -> None:
    with ExitStack() as stack:
        pairing = Pairing(tmp_path, random.Random(seed + run), stack)
        figures = None
        while figures is None:
            assert pairing.attempts < 3 * KILLS, "it does not get on"
            figures = pairing.attempt()
    again = figures.resent_bytes
    print(f"{pairing.kills} kills, {pairing.attempts} attempts, {again >> 20} MiB sent again")  # noqa: T201
    assert again <= AT_RISK * pairing.kills <= RESENT_MAX * pairing.kills
    finish_after(pairing.site, pairing.opened, again)


def finish_after(site: Site, opened: OpenPoint, again: int) -> None:
    """Finish the point, compare every byte, and see that nothing is there but the chain."""
    site.machine.finish(opened)
    assert restored(site.repository, opened.chain, 1, "a", None) == bytes(numbered(SIZE // PIECE).content)
    folder = site.repository.chain_folder(opened.chain)
    kept = {".lock", ".readers", ".hfm"}
    assert [path.name for path in folder.iterdir() if path.suffix not in kept] == [opened.file]
    assert (folder / opened.file).stat().st_size <= SIZE + again + 4 * MIB
