"""Runs of a file become spans of its volume, when they can be the runs of a file at all."""

import pytest

from holdfast.guest import file_tree
from holdfast.guest.file_tree import Extent, spans_of
from holdfast.guest.window import Implausible
from holdfast.model.spans import Span

RUNS = [Extent(0, 10, 2), Extent(2, 12, 1), Extent(5, 40, 1)]


def test_runs_that_touch_become_one_span() -> None:
    assert spans_of(RUNS, 512, 100, is_gapless=False) == [Span(10 * 512, 3 * 512), Span(40 * 512, 512)]


def test_a_file_with_gaps_is_none_where_that_matters() -> None:
    assert spans_of(RUNS, 512, 100, is_gapless=True) == []
    assert spans_of(RUNS[:2], 512, 100, is_gapless=True) == [Span(10 * 512, 3 * 512)]


@pytest.mark.parametrize(
    "run", [Extent(4, 50, 1), Extent(6, 50, 0), Extent(6, 0, 1), Extent(6, 99, 2), Extent(6, -1, 1)]
)
def test_runs_that_cannot_be_are_refused(run: Extent) -> None:
    with pytest.raises(Implausible):
        spans_of([*RUNS, run], 512, 100, is_gapless=False)


def test_a_file_in_too_many_pieces_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_tree, "EXTENTS_MAX", 2)
    assert spans_of(RUNS, 512, 100, is_gapless=False) != []
    assert spans_of([*RUNS, Extent(7, 60, 1)], 512, 100, is_gapless=False) == []
