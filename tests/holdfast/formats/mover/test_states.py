"""The tables say for every state what can happen in it."""

from itertools import product

import pytest

from holdfast.formats.mover.states import GREETING, LINK, Greeting, GreetingCause, LinkCause, LinkState, moved

FINAL = {Greeting.OPEN, Greeting.REFUSED}


def test_a_greeting_can_be_accepted_and_refused_until_it_is_over() -> None:
    assert set(GREETING) == set(product(set(Greeting) - FINAL, GreetingCause))
    assert all((GREETING[pair] is Greeting.REFUSED) == (pair[1] is GreetingCause.REFUSED) for pair in GREETING)


def test_a_link_that_is_over_stays_so() -> None:
    for state in (LinkState.ENDED, LinkState.FAILED):
        assert {after for (before, _), after in LINK.items() if before is state} == {state}


def test_an_end_is_sent_only_by_who_finishes() -> None:
    assert {state for state, cause in LINK if cause is LinkCause.END_SENT} == {LinkState.FINISHING, LinkState.ENDED}


def test_a_link_can_be_finished_and_can_fail_in_every_state() -> None:
    for cause in (LinkCause.FINISH, LinkCause.FAIL):
        assert {state for state, other in LINK if other is cause} == set(LinkState)


def test_what_the_table_lacks_cannot_happen() -> None:
    with pytest.raises(AssertionError, match="end sent cannot happen in state open"):
        moved(LINK, LinkState.OPEN, LinkCause.END_SENT)
