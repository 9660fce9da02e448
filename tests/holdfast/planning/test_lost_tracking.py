"""Wherever telling breaks off, nothing that was not told is left out."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ChangeTrackingLost
from holdfast.model.plan import Action
from holdfast.model.spans import Span, coalesce, subtract, total_length
from holdfast.planning.lost_tracking import OnLoss, told_or_rest, with_rest
from holdfast.planning.read_plan import changed_steps, whole_disk_steps

SIZE = 240
PIECE = 4

Windows = list[list[Span]]


@st.composite
def windows_of(draw: st.DrawFn) -> Windows:
    """Cut a disk into windows, and say of each what is in it."""
    cuts = sorted(draw(st.sets(st.integers(1, SIZE - 1), max_size=6)))
    windows: Windows = []
    for start, end in zip([0, *cuts], [*cuts, SIZE], strict=True):
        bits = draw(st.lists(st.booleans(), min_size=end - start, max_size=end - start))
        windows.append(list(coalesce(Span(start + at, 1) for at, bit in enumerate(bits) if bit)))
    return windows


def telling(windows: Windows, good: int) -> Iterator[Span]:
    """Tell some windows, and then break off; runs over the end of a window are one, as providers have it."""

    def told() -> Iterator[Span]:
        for window in windows[:good]:
            yield from window
        if good < len(windows):
            raise ChangeTrackingLost(f"window {good}")

    return coalesce(told())


def noting(losses: list[int]) -> OnLoss:
    return lambda _, at: losses.append(at)


def joined(spans: Iterable[Span]) -> list[Span]:
    return list(coalesce(spans))


@given(windows_of())
def test_a_break_at_any_window_leaves_nothing_out_and_is_told_once(windows: Windows) -> None:
    true = joined(span for window in windows for span in window)
    for good in range(len(windows) + 1):
        losses: list[int] = []
        told = list(told_or_rest(telling(windows, good), SIZE, noting(losses)))
        assert all(span.length > 0 for span in told)
        assert all(one.end <= other.start for one, other in pairwise(told))
        assert not list(subtract(true, told))
        if good == len(windows):
            assert (told, losses) == (true, [])
            continue
        [lost_at] = losses
        assert told[-1].end == SIZE or lost_at == SIZE
        assert 0 <= lost_at <= SIZE
        assert not list(subtract((span for span in told if span.end <= lost_at), true)), "what was told is believed"


@given(windows_of(), st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
def test_steps_of_a_broken_answer_deal_with_everything_that_changed(windows: Windows, bits: list[bool]) -> None:
    allocated = joined(Span(at, 1) for at, bit in enumerate(bits) if bit)
    true = joined(span for window in windows for span in window)
    for good in range(len(windows) + 1):
        told = told_or_rest(telling(windows, good), SIZE, lambda *_: None)
        steps = list(changed_steps(told, allocated, (SIZE, SIZE), PIECE))
        assert not list(subtract(true, joined(step.span for step in steps)))
        zeroed = joined(step.span for step in steps if step.action is Action.ZERO)
        assert total_length(subtract(zeroed, allocated)) == total_length(zeroed)


@given(windows_of())
def test_what_cannot_be_told_of_what_was_written_is_read(windows: Windows) -> None:
    true = joined(span for window in windows for span in window)
    for good in range(len(windows) + 1):
        allocated = told_or_rest(telling(windows, good), SIZE, lambda *_: None)
        read = joined(s.span for s in whole_disk_steps(allocated, SIZE, PIECE) if s.action is Action.READ)
        assert not list(subtract(true, read))


@given(windows_of(), st.integers(0, SIZE))
def test_with_a_rest_everything_from_there_on_is_in(windows: Windows, start: int) -> None:
    true = joined(span for window in windows for span in window)
    found = joined(with_rest(true, start, SIZE))
    assert not list(subtract(true, found))
    assert not list(subtract([Span(start, SIZE - start)] if start < SIZE else [], found))
    assert not list(subtract((span for span in found if span.end <= start), true))


def test_a_break_behind_the_last_byte_adds_nothing() -> None:
    losses: list[int] = []

    def telling_all() -> Iterator[Span]:
        yield Span(0, SIZE)
        raise ChangeTrackingLost("too late to matter")

    assert list(told_or_rest(telling_all(), SIZE, noting(losses))) == [Span(0, SIZE)]
    assert losses == [SIZE]


def test_a_rest_that_begins_at_the_end_is_none() -> None:
    assert list(with_rest([Span(0, 4)], SIZE, SIZE)) == [Span(0, 4)]
