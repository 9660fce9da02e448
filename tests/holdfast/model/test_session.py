"""Figures add up, and sessions of older versions can still be read."""

from functools import reduce
from operator import add

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.session import Figures, Outcome, Session, Task

counts = st.integers(0, 1 << 50)
figures = st.builds(
    Figures,
    **dict.fromkeys(set(Figures.__struct_fields__) - {"duration_s"}, counts),
    duration_s=st.integers(0, 1 << 20).map(float),
)


def test_figures_start_at_nothing() -> None:
    assert set(msgspec.structs.astuple(Figures())) == {0}


@given(st.lists(figures, max_size=5))
def test_figures_add_up_field_by_field(several: list[Figures]) -> None:
    total = reduce(add, several, Figures())
    for field in Figures.__struct_fields__:
        assert getattr(total, field) == sum(getattr(one, field) for one in several)


@given(figures, figures)
def test_the_order_of_adding_does_not_matter(one: Figures, two: Figures) -> None:
    assert one + two == two + one


def test_a_session_of_the_first_version_can_be_read() -> None:
    written = (
        b'{"session_id":"s","kind":"backup","job":"nightly","repository":"cellar",'
        b'"outcome":"running","started":"2026-03-01T22:00:00Z"}'
    )
    session = msgspec.json.decode(written, type=Session)
    assert (session.figures, session.problem, session.notes) == (Figures(), None, ())


def test_a_task_of_the_first_version_can_be_read() -> None:
    written = b'{"session_id":"s","machine_id":"m","machine_name":"files","disk":"d","outcome":"failed"}'
    task = msgspec.json.decode(written, type=Task)
    assert (task.outcome, task.figures, task.problem) == (Outcome.FAILED, Figures(), None)


def test_figures_are_values() -> None:
    counted = Figures()
    with pytest.raises(AttributeError, match="immutable"):
        counted.read_bytes = 1  # type: ignore[misc] # what the test is about
