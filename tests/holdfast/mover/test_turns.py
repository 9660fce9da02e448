"""Who had least goes next, and nobody waits without need."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from holdfast.errors import LinkLost
from holdfast.mover.turns import BEHIND_MAX, Turn, Turns
from tests.holdfast.mover.movers import until

MIB = 1 << 20


def queue(turns: Turns, pool: ThreadPoolExecutor, turn: Turn, noted: Callable[[], None]) -> None:
    """Let a session wait for its turn."""
    waiting = turns.waiting

    def work() -> None:
        with turn.of(1):
            noted()

    pool.submit(work)
    until(lambda: turns.waiting == waiting + 1, "it waits")


def test_nobody_waits_while_few_work() -> None:
    turns = Turns(3)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(turns.join().of(1))
        assert not turns.waiting
    with turns.join().of(1), turns.join().of(1):
        assert not turns.waiting


def test_who_had_least_goes_next_and_of_equals_who_came_first() -> None:
    turns, order = Turns(1), list[str]()
    sessions = {name: turns.join() for name in "abcd"}
    for name, size in {"a": 3, "b": 1, "c": 2, "d": 1}.items():
        with sessions[name].of(size):
            pass
    with ThreadPoolExecutor(4) as pool, turns.join().of(1):
        for name in "abcd":
            queue(turns, pool, sessions[name], partial(order.append, name))
    assert order == ["b", "d", "c", "a"]


def test_who_comes_late_begins_where_the_others_are() -> None:
    turns, order = Turns(1), list[str]()
    early = turns.join()
    for _ in range(10):
        with early.of(MIB):
            pass
    late = turns.join()
    with ThreadPoolExecutor(2) as pool, turns.join().of(1):
        queue(turns, pool, late, partial(order.append, "late"))
        queue(turns, pool, early, partial(order.append, "early"))
    with turns.join().of(1):
        assert order == ["late", "early"]
    assert late.had >= 9 * MIB


def test_who_was_away_makes_little_of_it_good() -> None:
    turns = Turns(1)
    away, busy = turns.join(), turns.join()
    for _ in range(4):
        with busy.of(BEHIND_MAX):
            pass
    with away.of(1):
        pass
    assert away.had == 2 * BEHIND_MAX + 1


def test_sessions_that_always_want_more_get_the_same(seed: int) -> None:
    rng, turns, over = random.Random(seed), Turns(1), threading.Event()
    sessions = [turns.join() for _ in range(6)]
    sizes = [rng.choice([1, 5, 16]) for _ in range(120)]

    def work(number: int) -> None:
        while not over.is_set():
            with sessions[number].of(sizes[-1]):
                until(lambda: over.is_set() or turns.waiting == 5, "the others want more, too")
                if over.is_set():
                    return
                had = [session.had for session in sessions]
                assert max(had) - min(had) <= 2 * 16
                sizes.pop()
                if len(sizes) < 2:
                    over.set()

    with ThreadPoolExecutor(6) as pool:
        for working in [pool.submit(work, number) for number in range(6)]:
            working.result()


def test_a_turn_that_fails_is_passed_on() -> None:
    turns = Turns(1)
    with pytest.raises(LinkLost), turns.join().of(1):
        raise LinkLost("gone")
    with turns.join().of(1):
        assert not turns.waiting
