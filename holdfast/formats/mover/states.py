"""States of the mover protocol as data; the page and the tests read the same tables.

A greeting brings one connection up. A link lives as long as a session's attempt, over any number of connections.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

State = TypeVar("State", bound=StrEnum)
Cause = TypeVar("Cause", bound=StrEnum)


class Greeting(StrEnum):
    """What one side of a new connection waits for."""

    HELLO = "hello"
    WELCOME = "welcome"
    PROOF = "proof"
    VERDICT = "verdict"
    OPEN = "open"
    REFUSED = "refused"


class GreetingCause(StrEnum):
    """What moves a greeting on."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


GREETING: Mapping[tuple[Greeting, GreetingCause], Greeting] = {
    (Greeting.HELLO, GreetingCause.ACCEPTED): Greeting.PROOF,
    (Greeting.HELLO, GreetingCause.REFUSED): Greeting.REFUSED,
    (Greeting.PROOF, GreetingCause.ACCEPTED): Greeting.OPEN,
    (Greeting.PROOF, GreetingCause.REFUSED): Greeting.REFUSED,
    (Greeting.WELCOME, GreetingCause.ACCEPTED): Greeting.VERDICT,
    (Greeting.WELCOME, GreetingCause.REFUSED): Greeting.REFUSED,
    (Greeting.VERDICT, GreetingCause.ACCEPTED): Greeting.OPEN,
    (Greeting.VERDICT, GreetingCause.REFUSED): Greeting.REFUSED,
}
"""Hello and proof are waited for by the listener, welcome and verdict by the dialler."""


class LinkState(StrEnum):
    """How a link stands."""

    OPEN = "open"
    FINISHING = "finishing"
    ENDED = "ended"
    FAILED = "failed"


class LinkCause(StrEnum):
    """What moves a link on."""

    FINISH = "finish"
    END_SENT = "end sent"
    END_RECEIVED = "end received"
    FAIL = "fail"


LINK: Mapping[tuple[LinkState, LinkCause], LinkState] = {
    (LinkState.OPEN, LinkCause.FINISH): LinkState.FINISHING,
    (LinkState.OPEN, LinkCause.END_RECEIVED): LinkState.ENDED,
    (LinkState.OPEN, LinkCause.FAIL): LinkState.FAILED,
    (LinkState.FINISHING, LinkCause.FINISH): LinkState.FINISHING,
    (LinkState.FINISHING, LinkCause.END_SENT): LinkState.ENDED,
    (LinkState.FINISHING, LinkCause.END_RECEIVED): LinkState.ENDED,
    (LinkState.FINISHING, LinkCause.FAIL): LinkState.FAILED,
    (LinkState.ENDED, LinkCause.FINISH): LinkState.ENDED,
    (LinkState.ENDED, LinkCause.END_SENT): LinkState.ENDED,
    (LinkState.ENDED, LinkCause.END_RECEIVED): LinkState.ENDED,
    (LinkState.ENDED, LinkCause.FAIL): LinkState.ENDED,
    (LinkState.FAILED, LinkCause.FINISH): LinkState.FAILED,
    (LinkState.FAILED, LinkCause.FAIL): LinkState.FAILED,
}


def moved(table: Mapping[tuple[State, Cause], State], state: State, cause: Cause) -> State:
    """Return the state that follows; a pair that the table lacks is a defect of the caller."""
    following = table.get((state, cause))
    assert following is not None, f"{cause} cannot happen in state {state}"
    return following
