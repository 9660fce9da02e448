"""A worker takes limits over that are written into its configuration, and keeps its own when they cannot be used."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import RepositoryName, SessionId
from holdfast.model.spans import Span
from holdfast.mover.client import MoverClient
from holdfast.mover.remote_sink import RemoteSink
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.planning.throttling import Direction, Limits, RepositoryLimits, Transfer
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import until
from tests.holdfast.storage.driving import KEY, snapshot_of
from tests.workers.test_config import BASE
from workers.config import load_settings
from workers.loopback import free_ports
from workers.movers import Movers
from workers.throttling import _LOOK_S, ThrottleKeeper, limits_of
from workers.throttling_status import StatusFile, held_now

CLOCK = SystemClock()
LATE_S = 0.5
"""How late threads may be where others use the processors."""
MAIN = RepositoryName("main")
LIMITED = BASE.replace('path = "/srv/repository"', 'path = "/srv/repository"\nwrite_limit = {limit}')
RULE = """
[[throttling]]
name = "office"
source = "10.1.0.0/16"
target = "10.2.0.0/16"
limit = 12500000
"""


class Desk:
    """A configuration file, and a worker that looks at it."""

    def __init__(self, folder: Path, text: str = BASE) -> None:
        self.file = folder / "holdfast.toml"
        self.said: list[str] = []
        self._times = 0
        self.write(text)
        self.throttle = Throttle(CLOCK, limits_of(load_settings(self.file, {})))
        self.keeper = ThrottleKeeper(self.throttle, self.file, self.said.append)

    def write(self, text: str) -> None:
        self.file.write_text(text)
        self._times += 1
        os.utime(self.file, ns=(self._times * 10**9,) * 2)  # some file systems are slow to tell two times apart

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            self.keeper.look()

    def write_limit(self) -> int | None:
        return self.throttle.limits.repositories[MAIN].write_bytes_s


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_limits_and_rules_are_those_of_the_configuration(desk: Desk) -> None:
    assert desk.throttle.limits == Limits(repositories={MAIN: RepositoryLimits()})
    desk.write(LIMITED.format(limit=70000) + RULE)
    found = limits_of(load_settings(desk.file, {}))
    assert found.repositories == {MAIN: RepositoryLimits(write_bytes_s=70000)}
    assert [rule.name for rule in found.rules] == ["office"]


def test_a_file_that_changed_is_taken_over_once_it_rests_and_told(desk: Desk) -> None:
    desk.look()
    desk.write(LIMITED.format(limit=70000) + RULE)
    desk.look(1)
    assert desk.write_limit() is None
    desk.look(1)
    assert desk.write_limit() == 70000
    desk.look()
    [said] = desk.said
    assert said.endswith(f"from {desk.file}: rule office 12500000 bytes/s, write limit of main 70000 bytes/s")
    desk.write(BASE)
    desk.look()
    assert desk.write_limit() is None
    assert desk.said[1].endswith("none")


@pytest.mark.parametrize(
    "text, complaint",
    [
        (LIMITED.format(limit=5), "write_limit of repository main is 5 (Limits are in bytes per second"),
        ("[[throttling", "is not TOML"),
        (BASE + RULE.replace("10.1.0.0/16", "10.1"), "source of throttling rule office is no range"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_is_complained_of_once(
    desk: Desk, text: str, complaint: str
) -> None:
    desk.write(LIMITED.format(limit=70000))
    desk.look()
    desk.write(text)
    desk.look(5)
    assert desk.write_limit() == 70000
    assert len(desk.said) == 2
    assert desk.said[1].startswith("holdfast worker keeps its throttling rules and limits: ")
    assert complaint in desk.said[1]
    desk.write(LIMITED.format(limit=80000))
    desk.look()
    assert desk.write_limit() == 80000


def test_a_file_that_goes_away_changes_nothing(desk: Desk) -> None:
    desk.write(LIMITED.format(limit=70000))
    desk.look()
    desk.file.rename(desk.file.with_suffix(".old"))
    desk.look()
    assert desk.write_limit() == 70000
    desk.write(LIMITED.format(limit=90000))
    desk.look()
    assert desk.write_limit() == 90000


def test_other_changes_of_the_file_are_passed_over_in_silence(desk: Desk) -> None:
    desk.write(BASE + "# a remark\n")
    desk.look()
    assert desk.said == []


def test_without_a_file_the_time_is_looked_at_all_the_same() -> None:
    throttle = Throttle(CLOCK)
    with ThrottleKeeper(throttle, None, lambda _: None):
        pass


def test_a_transfer_that_runs_has_another_rate_with_the_third_look_which_is_within_a_second(desk: Desk) -> None:
    assert 3 * _LOOK_S < 1.0
    pace = Pace(CLOCK)
    with ExitStack() as stack:
        stack.enter_context(desk.keeper)
        transfer = Transfer(repository=MAIN, direction=Direction.WRITE)
        stack.enter_context(desk.throttle.holding(transfer, pace))
        for limit in (70000, 90000):
            desk.write(LIMITED.format(limit=limit))
            until(lambda wanted=limit: pace.allotted[0] == wanted, f"the limit is {limit}", 5.0)  # type: ignore[misc]


# -- from the file to the line ---------------------------------------------------------------------------------------

MIB = 1 << 20
FAR = "127.0.0.2"
"""Reached from 127.0.0.1: another address, as of another host."""
WORKER = """
home = "home"
[[repositories]]
name = "main"
path = "repository"
mover = "{far}:{port}"
[[throttling]]
name = "wan"
source = "127.0.0.1"
target = "{far}"
limit = {limit}
"""


def test_a_rule_that_is_written_into_the_file_holds_a_running_backup_within_a_second(tmp_path: Path) -> None:
    [port] = free_ports(1)
    desk = Desk(tmp_path, WORKER.format(far=FAR, port=port, limit=4 * MIB))
    settings = load_settings(desk.file, {})
    repository = Repository.create(tmp_path / "repository", HostFiles(), "id", CLOCK.now())
    movers = Movers(settings, lambda _: repository, lambda _: None, CLOCK, desk.throttle)
    content = random.Random(1).randbytes(16 * MIB)
    snapshot = snapshot_of(content, 1)
    opened = begin_point(repository, SessionId("s1"), snapshot, StoreOptions(unit_size=256 << 10))
    pace = Pace(CLOCK)
    with movers.serving([MAIN]), desk.keeper, ThreadPoolExecutor(1) as pool:
        access = movers.to_write(MAIN, opened, [KEY], None)
        assert access is not None
        disk = access.disk(KEY)
        assert disk is not None
        writable = RemoteSink.open(MoverClient(None, CLOCK).line(access, disk, 1), disk.grant, pace=pace)
        copy = DiskCopy(MemoryDisk(content), writable.sink, CLOCK)
        steps = whole_disk_steps([Span(0, len(content))], len(content), PIECE_SIZE)
        flight = pool.submit(copy.run, steps, lambda _: None)
        until(lambda: pace.allotted == (4 * MIB, "throttling rule wan"), "the backup is held", 5.0)
        for rate in (MIB, 64 * MIB):
            threading.Event().wait(0.5)
            desk.write(WORKER.format(far=FAR, port=port, limit=rate))
            written_s = CLOCK.monotonic_s()
            until(lambda wanted=rate: pace.allotted[0] == wanted, f"the rate is {rate}", 5.0)  # type: ignore[misc]
            assert CLOCK.monotonic_s() - written_s < 1.0 + LATE_S
        flight.result(30)
    finish_point(repository, opened, None)
    assert "waited" in pace.words


def test_who_is_held_is_told_while_it_is(desk: Desk, tmp_path: Path) -> None:
    desk.write(LIMITED.format(limit=70000))
    desk.look()
    keeper = ThrottleKeeper(desk.throttle, None, desk.said.append, StatusFile(tmp_path, 7))
    transfer = Transfer(repository=MAIN, direction=Direction.WRITE, label="disk0 of web")
    with keeper, desk.throttle.holding(transfer, Pace(CLOCK)):
        until(lambda: bool(held_now(tmp_path, CLOCK.now())), "it is told")
    assert held_now(tmp_path, CLOCK.now()) == []
