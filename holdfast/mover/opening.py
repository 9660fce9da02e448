"""The first words of a session."""

from collections.abc import Callable
from typing import TypeVar

from holdfast.errors import LinkLost, ProtocolError
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.inbox import Message
from holdfast.mover.line import Line

T = TypeVar("T")

_OPENING_S = 600
"""Opening may take the other side long: it looks at what an earlier attempt left."""
_FIRST_S = 60
"""How long a mover may be out of reach before an attempt ends; later, in the middle of the work, it waits longer."""


def expect(line: Line, kind: type[T], look: Callable[[], None] = lambda: None) -> T:
    """Return the next message, which is to be of a kind; ``look`` is called each second while it is waited for.

    Raises what the other side failed with, what looking raises, and `LinkLost`.
    """
    message = _first(line, look)
    head, _ = m.decode_message(message.payload)
    line.release(message)
    if isinstance(head, m.Failure):
        raise m.failed(head)
    if not isinstance(head, kind):
        raise ProtocolError(f"{type(head).__name__} came instead of {kind.__name__}")
    return head


def _first(line: Line, look: Callable[[], None]) -> Message:
    for second in range(_OPENING_S):
        message = line.receive(1.0)
        if message is not None:
            return message
        if line.is_over:
            break
        look()
        if second >= _FIRST_S and line.trouble:
            raise LinkLost(f"no connection to the repository's mover: {line.trouble}")
    raise LinkLost("the repository's mover did not answer")
