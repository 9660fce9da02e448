"""Transfers between two movers keep to rules and limits, share them, and can be stopped while they wait.

The repository's mover listens at 127.0.0.2 and is reached from 127.0.0.1: two addresses, as of two hosts.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import HoldfastError, LinkLost, OperationCancelled
from holdfast.formats.mover import messages as m
from holdfast.model.ids import RepositoryName
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.mover.server import MoverServer
from holdfast.mover.sockets import Address
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.restore import DiskRestore
from holdfast.pipeline.throttle import Throttle
from holdfast.planning.bottleneck import Stage, bottleneck
from holdfast.planning.throttling import AddressRange, Limits, RepositoryLimits, Rule
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.lateness import expect_by, tried_again
from tests.holdfast.mover.movers import CLOCK, MIB, Site, until

FAR = Address("127.0.0.2", 0)
UNIT = 256 << 10
LATE_S = 1.2
"""How late threads may be where others use the processors."""
BURST_S = 0.1
"""What a bucket keeps; beside it the first unit passes at once."""


def rule(limit: float, name: str = "office", *, restores: bool = False) -> Rule:
    return Rule(
        name=name,
        source=AddressRange.parse("127.0.0.1"),
        target=AddressRange.parse("127.0.0.2-127.0.0.9"),
        limit_bytes_s=round(limit),
        holds_restores=restores,
    )


def site_of(folder: Path, size: int, throttle: Throttle, address: Address = FAR) -> Site:
    site = Site(folder, {"a": size})
    site.throttle = throttle
    site.setting.options = msgspec.structs.replace(site.setting.options, address=address)
    return site


def under(*rules: Rule, **limits: int) -> Throttle:
    return Throttle(CLOCK, Limits(rules=rules, repositories={RepositoryName("r"): RepositoryLimits(**limits)}))


class Run:
    """A backup of a whole disk that takes its time."""

    def __init__(self, site: Site, server: MoverServer) -> None:
        self.site = site
        self.opened = site.begin()
        self.pace = Pace(CLOCK)
        self.took_s = 0.0
        self.figures = Figures()
        self._writable = site.sink(server.address, site.access(self.opened), pace=self.pace)

    def go(self) -> None:
        started_s = CLOCK.monotonic_s()
        self.figures = self.site.copy(self._writable, self.site.reader())
        self.took_s = CLOCK.monotonic_s() - started_s
        self.site.finish(self.opened)


def assert_near(took_s: float, size: int, rate: float) -> None:
    """Check that bytes took as long as a rate says, within a tenth."""
    least_s = (size - UNIT) / rate - BURST_S
    assert took_s >= 0.9 * least_s, f"{took_s:.2f} s, not {size / rate:.2f} s"
    expect_by(took_s, 1.1 * size / rate + LATE_S)


@tried_again
def test_a_backup_goes_as_fast_as_its_rule_says_and_says_how_long_it_waited(tmp_path: Path) -> None:
    site = site_of(tmp_path / "r", 8 * MIB, under(rule(4 * MIB), rule(40 * MIB, "wider")))
    with site.server() as server:
        run = Run(site, server)
        run.go()
    assert_near(run.took_s, 8 * MIB, 4 * MIB)
    assert run.took_s * 0.7 <= run.pace.waited_s <= run.took_s
    assert run.pace.words == "waited 2 s for its share of throttling rule office"
    assert bottleneck(run.figures) is Stage.THROTTLING
    assert run.figures.throttled_s == pytest.approx(run.pace.waited_s, rel=0.1)


@tried_again
def test_two_backups_share_a_rule_and_the_one_that_stays_gets_all_of_it(tmp_path: Path) -> None:
    throttle = under(rule(8 * MIB))
    sites = [site_of(tmp_path / name, size, throttle) for name, size in (("one", 18 * MIB), ("other", 6 * MIB))]
    with sites[0].server() as first, sites[1].server() as second, ThreadPoolExecutor(2) as pool:
        runs = [Run(sites[0], first), Run(sites[1], second)]
        for flight in [pool.submit(run.go) for run in runs]:
            flight.result()
    assert_near(runs[1].took_s, 6 * MIB, 4 * MIB)
    assert_near(runs[0].took_s, 24 * MIB, 8 * MIB)


@tried_again
def test_a_write_limit_of_the_repository_holds_on_one_host_too_and_rules_do_not(tmp_path: Path) -> None:
    everywhere = msgspec.structs.replace(
        rule(UNIT, "all"), source=AddressRange.parse("127.0.0.0/8"), target=AddressRange.parse("127.0.0.0/8")
    )
    near = Address("127.0.0.1", 0)
    throttle = under(everywhere, write_bytes_s=4 * MIB)
    site = site_of(tmp_path / "r", 6 * MIB, throttle, near)
    with site.server() as server:
        run = Run(site, server)
        run.go()
    assert_near(run.took_s, 6 * MIB, 4 * MIB)
    assert "write limit of repository r" in run.pace.words
    throttle.change(Limits(rules=(everywhere,)))
    with site.server() as server:
        run = Run(site, server)
        run.go()
    assert run.pace.waited_ns == 0


@pytest.mark.parametrize("rates", [(MIB, 32 * MIB), (32 * MIB, MIB)])
@tried_again
def test_another_limit_is_good_in_the_middle_within_a_second(tmp_path: Path, rates: tuple[int, int]) -> None:
    before, after = rates
    throttle = under(rule(before))
    site = site_of(tmp_path / "r", 48 * MIB, throttle)
    with site.server() as server, ThreadPoolExecutor(1) as pool:
        run = Run(site, server)
        flight = pool.submit(run.go)
        until(lambda: run.pace.passed[0] >= MIB, "the backup has begun")
        throttle.change(Limits(rules=(rule(after),)))
        changed_s = CLOCK.monotonic_s()
        until(lambda: run.pace.allotted[0] == after, "the proxy has heard of it")
        heard_s = CLOCK.monotonic_s() - changed_s
        passed, pause = run.pace.passed[0], threading.Event()
        pause.wait(1.0)
        moved = run.pace.passed[0] - passed
        throttle.change(Limits())
        flight.result()
    assert moved <= 1.1 * after + after * BURST_S + UNIT
    expect_by(heard_s, 1.0 + LATE_S)
    expect_by(min(0.5 * after, 4 * before) / max(moved, 1), 1.0, "as much as passes in a second")


@contextmanager
def stored(folder: Path, size: int, throttle: Throttle) -> Iterator[tuple[Site, MoverServer]]:
    site = site_of(folder, size, throttle)
    site.machine.disks["a"].write(Span(0, size))
    site.machine.back_up()
    with site.server() as server:
        yield site, server


def restored_s(site: Site, server: MoverServer, pace: Pace, *, is_held: bool = True) -> float:
    source = site.source(server.address, site.reading(site.machine.kept[0].summary.chain, 1), pace=pace)
    target = MemoryDisk(bytes(source.size_bytes))
    started_s = CLOCK.monotonic_s()
    figures = DiskRestore(source, target, source.digest_key, CLOCK).run(0, lambda _: None)
    took_s = CLOCK.monotonic_s() - started_s
    assert (bottleneck(figures) is Stage.THROTTLING) is is_held
    source.close()
    kept = site.machine.kept[0].disks["a"]
    assert bytes(target.content) == kept.read(Span(0, kept.size_bytes))
    return took_s


@tried_again
def test_restores_are_held_by_rules_that_say_so_and_by_the_read_limit(tmp_path: Path) -> None:
    throttle = under(rule(MIB))
    with stored(tmp_path / "r", 6 * MIB, throttle) as (site, server):
        pace = Pace(CLOCK)
        restored_s(site, server, pace, is_held=False)
        assert (pace.waited_ns, pace.words) == (0, "")
        throttle.change(under(rule(3 * MIB, restores=True), write_bytes_s=UNIT).limits)
        pace = Pace(CLOCK)
        took_s = restored_s(site, server, pace)
        assert_near(took_s, 6 * MIB, 3 * MIB)
        assert took_s - 1.5 <= pace.waited_s <= took_s
        assert pace.words.endswith("s for its share of throttling rule office")
        throttle.change(under(read_bytes_s=6 * MIB).limits)
        assert_near(restored_s(site, server, Pace(CLOCK)), 6 * MIB, 6 * MIB)


def test_a_backup_that_waits_for_its_share_can_be_stopped_and_frees_the_chain(tmp_path: Path) -> None:
    site = site_of(tmp_path / "r", 4 * MIB, under(rule(UNIT / 100)))
    attended = 0

    def attend() -> None:
        nonlocal attended
        attended += 1
        if attended > 2:
            raise OperationCancelled("the session was cancelled")

    with site.server() as server:
        opened = site.begin()
        writable = site.sink(server.address, site.access(opened), pace=Pace(CLOCK, attend))
        started_s = CLOCK.monotonic_s()
        with pytest.raises(OperationCancelled, match="the session was cancelled"):
            site.copy(writable, site.reader())
        assert CLOCK.monotonic_s() - started_s < 5.0
        assert site.is_free(opened)


def test_a_backup_that_waits_hears_that_the_mover_is_gone(tmp_path: Path) -> None:
    site = site_of(tmp_path / "r", 4 * MIB, under(rule(UNIT / 100)))
    site.setting.link = msgspec.structs.replace(site.setting.link, give_up_s=0.5)
    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with site.server() as server:
            opened = site.begin()
            writable = site.sink(server.address, site.access(opened), pace=Pace(CLOCK, begun.set))
            flight = pool.submit(site.copy, writable, site.reader())
            assert begun.wait(20)
        with pytest.raises(LinkLost):
            flight.result(20)


def test_a_restore_that_waits_for_its_share_is_told_so_and_can_be_stopped(tmp_path: Path) -> None:
    def attend() -> None:
        raise OperationCancelled("the session was cancelled")

    throttle = under(rule(UNIT / 100, restores=True))
    with stored(tmp_path / "r", 4 * MIB, throttle) as (site, server):
        source = site.source(
            server.address, site.reading(site.machine.kept[0].summary.chain, 1), pace=Pace(CLOCK, attend)
        )
        target = MemoryDisk(bytes(source.size_bytes))
        restore = DiskRestore(source, target, source.digest_key, CLOCK)
        with pytest.raises(HoldfastError) as caught:
            restore.run(0, lambda _: None)
        assert caught.value.message == "the session was cancelled"
        source.close()
        until(lambda: not throttle.held(), "the repository's mover has let go")


def test_every_proxy_is_told_its_pace(tmp_path: Path) -> None:
    site = site_of(tmp_path / "r", 4 * MIB, under(rule(UNIT)))
    with site.server() as server:
        access = site.access(site.begin())
        line = site.line(server.address, access)
        line.send(m.encode_message(m.OpenDisk(grant=access.grant)))
        heads: list[m.AnyHead] = []
        while len(heads) < 3:
            message = line.receive(20)
            assert message is not None
            heads.append(m.decode_message(message.payload)[0])
            line.release(message)
        assert m.Paced(rate_bytes_s=UNIT, because="throttling rule office") in heads
        line.close()
