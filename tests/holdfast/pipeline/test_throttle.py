"""Shares follow transfers as they come and go, the time, other limits, and what is used of them."""

from collections import deque
from contextlib import ExitStack
from datetime import UTC
from typing import Final

import pytest

from holdfast.model.ids import RepositoryName
from holdfast.model.limit_shares import Share, Want
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.throttle import Held, Throttle, Wanted
from holdfast.planning.throttling import (
    IDLE_BYTES_S,
    AddressRange,
    Direction,
    Ends,
    Hours,
    Limits,
    RepositoryLimits,
    Rule,
    Transfer,
)
from tests.holdfast.pipeline.stepped_clock import SteppedClock

VAULT: Final = RepositoryName("vault")
ENDS: Final = Ends.parse("10.1.0.5", "10.2.0.7")
MB: Final = 1_000_000
LIMIT_8: Final = Limits(repositories={VAULT: RepositoryLimits(read_bytes_s=8, write_bytes_s=8)})


def rule(limit: int, hours: Hours | None = None) -> Rule:
    ranges = [AddressRange.parse(text) for text in ("10.1.0.0/16", "10.2.0.0/16")]
    return Rule(name="wan", source=ranges[0], target=ranges[1], limit_bytes_s=limit, hours=hours)


class Scene:
    """Transfers under a throttle."""

    def __init__(self, limits: Limits) -> None:
        self.clock = SteppedClock()
        self.throttle = Throttle(self.clock, limits)
        self.running: dict[str, tuple[Pace, ExitStack]] = {}

    def begin(self, name: str, direction: Direction = Direction.WRITE, ends: Ends | None = ENDS) -> None:
        pace, stack = Pace(self.clock, pause=self.clock.pause), ExitStack()
        transfer = Transfer(repository=VAULT, direction=direction, ends=ends)
        stack.enter_context(self.throttle.holding(transfer, pace))
        self.running[name] = pace, stack

    def end(self, name: str) -> None:
        pace, stack = self.running.pop(name)
        stack.close()
        assert pace.allotted[0] is None

    @property
    def rates(self) -> dict[str, float | None]:
        return {name: pace.allotted[0] for name, (pace, _) in self.running.items()}

    def go_on(self, seconds: float, **used: float) -> None:
        """Let time pass while some transfers use so many bytes per second, in messages of 10 kB."""
        left = dict.fromkeys(used, 0.0)
        for _ in range(round(seconds * 5)):
            self.clock.pause(0.2)
            for name, speed in used.items():
                pace = self.running[name][0]
                left[name] += min(speed, pace.allotted[0] or speed) * 0.2
                while left[name] >= 10_000:
                    left[name] -= 10_000
                    pace.count(10_000)
            self.throttle.tick()


def test_two_backups_write_at_four_each_and_copies_read_beside_them() -> None:
    scene = Scene(LIMIT_8)
    scene.begin("backup 1")
    assert scene.rates == {"backup 1": 8}
    scene.begin("backup 2")
    assert scene.rates == {"backup 1": 4, "backup 2": 4}
    scene.begin("copy 1", Direction.READ)
    assert scene.rates == {"backup 1": 4, "backup 2": 4, "copy 1": 8}
    scene.begin("copy 2", Direction.READ)
    assert scene.rates == {"backup 1": 4, "backup 2": 4, "copy 1": 4, "copy 2": 4}
    scene.end("backup 1")
    assert scene.rates == {"backup 2": 8, "copy 1": 4, "copy 2": 4}


def test_the_rule_and_the_limit_of_the_repository_hold_together() -> None:
    scene = Scene(Limits(rules=(rule(6),), repositories=LIMIT_8.repositories))
    scene.begin("far")
    scene.begin("near", ends=None)
    assert scene.rates == {"far": 4, "near": 4}
    scene.begin("far 2")
    scene.begin("far 3")
    assert scene.rates == {"far": 2, "near": 2, "far 2": 2, "far 3": 2}
    scene.end("far 3")
    scene.throttle.change(Limits(rules=(rule(3),), repositories=LIMIT_8.repositories))
    assert scene.rates == {"far": 1.5, "near": 5, "far 2": 1.5}


def test_other_limits_are_good_at_once_for_transfers_that_run() -> None:
    scene = Scene(Limits())
    scene.begin("a")
    assert scene.rates == {"a": None}
    for limit in (100, 7):
        scene.throttle.change(Limits(rules=(rule(limit),)))
        assert scene.rates == {"a": limit}
    assert scene.throttle.limits.rules[0].limit_bytes_s == 7
    scene.throttle.change(Limits())
    assert scene.rates == {"a": None}


def test_a_rule_holds_while_its_hours_last() -> None:
    noon_on = Hours(days=frozenset(range(7)), start=12 * 60 + 1, end=12 * 60 + 2, zone=UTC)
    scene = Scene(Limits(rules=(rule(100, noon_on),)))
    scene.begin("a")
    found = []
    for _ in range(3):
        found.append(scene.rates["a"])
        scene.clock.pause(60.0)
        scene.throttle.tick()
    assert found == [None, 100, None]


def test_a_wall_clock_that_steps_moves_hours_and_no_rate() -> None:
    scene = Scene(Limits(rules=(rule(4 * MB),)))
    scene.begin("a")
    scene.begin("b")
    for step_s in (86400.0, -86400.0, 0.0):
        scene.clock.step_s = step_s
        scene.go_on(10, a=9 * MB, b=9 * MB)
        assert scene.rates == {"a": 2 * MB, "b": 2 * MB}


def test_what_a_transfer_does_not_use_goes_to_the_others_until_it_wants_it() -> None:
    scene = Scene(Limits(rules=(rule(4 * MB),)))
    scene.begin("a")
    scene.begin("b")
    scene.go_on(10, a=9 * MB, b=0)
    assert scene.rates == {"a": 4 * MB - IDLE_BYTES_S, "b": IDLE_BYTES_S}
    scene.go_on(10, a=9 * MB, b=0.5 * MB)
    assert scene.rates["b"] == pytest.approx(1.25 * MB, rel=0.1)
    scene.go_on(6, a=9 * MB, b=9 * MB)
    assert scene.rates == {"a": 2 * MB, "b": 2 * MB}


class Peer:
    """Sends messages at a rate that it hears of late, as a bucket lets it; ``wants`` says when it has something."""

    def __init__(self, scene: Scene, name: str, message: int) -> None:
        scene.begin(name)
        self._pace = scene.running[name][0]
        self._message = message
        self._heard: deque[float] = deque([1.0] * 2)
        self._debt = 0.0
        self.wants = True
        self.sent = 0

    def step(self, seconds: float) -> None:
        rate = self._pace.allotted[0]
        assert rate is not None
        self._heard.append(rate)
        self._debt -= self._heard.popleft() * seconds
        while self.wants and self._debt <= 0:
            self._debt += self._message
            self.sent += self._message
            self._pace.count(self._message)
        self._debt = max(0.0, self._debt)


STEP_S = 0.2
MESSAGES = 30


@pytest.mark.parametrize("limit, message", [(MB, 1 << 20), (64 << 10, 64 << 10), (50 * MB, 4 << 20), (MB, 64 << 10)])
@pytest.mark.parametrize("busy, idle", [(1, 0), (3, 0), (2, 10), (4, 2)])
def test_nobody_who_waits_is_taken_for_idle_and_the_idle_cost_little(
    limit: int, message: int, busy: int, idle: int
) -> None:
    scene = Scene(Limits(rules=(rule(limit),)))
    peers = [Peer(scene, f"{index}", message) for index in range(busy + idle)]
    for peer in peers[busy:]:
        peer.wants = False
    rounds = round(max(10.0, MESSAGES * message * len(peers) / limit) / STEP_S)

    def go_on() -> list[float]:
        before = [peer.sent for peer in peers]
        for _ in range(rounds):
            scene.clock.pause(STEP_S)
            for peer in peers:
                peer.step(STEP_S)
            scene.throttle.tick()
        return [(peer.sent - count) / (rounds * STEP_S) for peer, count in zip(peers, before, strict=True)]

    go_on()
    free = limit - min(idle * IDLE_BYTES_S, limit * idle / len(peers))
    for speed in go_on()[:busy]:
        assert speed == pytest.approx(free / busy, rel=0.15)
    for peer in peers:
        peer.wants = True
    go_on()
    for speed in go_on():
        assert speed == pytest.approx(limit / len(peers), rel=0.15)


def test_those_who_run_are_told_with_what_they_may() -> None:
    scene = Scene(Limits(rules=(rule(4 * MB),)))
    scene.begin("a")
    scene.go_on(1, a=9 * MB)
    [held] = scene.throttle.held()
    assert held == Held(
        transfer=Transfer(repository=VAULT, direction=Direction.WRITE, ends=ENDS),
        rate_bytes_s=4 * MB,
        because="throttling rule wan",
        passed_bytes=4 * MB,
    )
    scene.end("a")
    assert scene.throttle.held() == []


def test_a_transfer_that_fails_leaves_its_share_to_the_others() -> None:
    scene = Scene(LIMIT_8)
    scene.begin("a")
    transfer = Transfer(repository=VAULT, direction=Direction.WRITE)

    def fail() -> None:
        with scene.throttle.holding(transfer, Pace(scene.clock)):
            assert scene.rates == {"a": 4}
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert scene.rates == {"a": 8}


# -- limits that other processes are under, too ------------------------------------------------------------------------

WRITE: Final = "write limit of repository vault"


def share(rate: float, limit: float = 8) -> dict[str, Share]:
    return {WRITE: Share(rate_bytes_s=rate, limit_bytes_s=limit)}


def shared_scene(*names: str) -> Scene:
    scene = Scene(LIMIT_8)
    scene.throttle.share_with_others()
    for name in names:
        scene.begin(name)
    return scene


def test_until_a_process_was_given_anything_its_transfers_stand_still() -> None:
    scene = shared_scene("one", "two")
    assert scene.rates == {"one": 1, "two": 1}
    assert scene.throttle.want() == Wanted(limits={WRITE: 8}, wants=(Want(limits=(WRITE,), count=2),), holds={})
    scene.throttle.give(share(6))
    assert scene.rates == {"one": 3, "two": 3}
    scene.throttle.share_with_others()
    assert scene.rates == {"one": 3, "two": 3}
    assert scene.throttle.want().holds == {WRITE: 6}


def test_what_is_under_no_limit_is_shared_with_nobody() -> None:
    scene = Scene(Limits())
    scene.throttle.share_with_others()
    scene.begin("free")
    assert scene.rates == {"free": None}
    assert scene.throttle.want() == Wanted(limits={}, wants=(), holds={})


def test_the_parts_of_a_process_go_to_whoever_of_it_is_there() -> None:
    scene = shared_scene("one", "two")
    scene.throttle.give(share(4))
    scene.end("two")
    assert scene.rates == {"one": 4}


def test_a_process_that_wants_nothing_lets_go_of_what_it_was_given() -> None:
    scene = shared_scene("one")
    scene.throttle.give(share(8))
    scene.end("one")
    assert scene.throttle.want().holds == {}
    scene.begin("another")
    assert scene.rates == {"another": 1}


def test_a_lower_limit_takes_its_part_at_once_and_a_higher_one_waits_for_others() -> None:
    scene = shared_scene("one")
    scene.throttle.give(share(4))
    scene.throttle.change(Limits(repositories={VAULT: RepositoryLimits(write_bytes_s=4)}))
    assert scene.rates == {"one": 2}
    assert scene.throttle.want().holds == {WRITE: 2}
    scene.throttle.change(LIMIT_8)
    assert scene.rates == {"one": 2}
    scene.throttle.give(share(5))
    assert scene.rates == {"one": 5}
