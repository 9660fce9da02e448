"""The first words of a session."""

from typing import TypeVar

from holdfast.errors import LinkLost, ProtocolError
from holdfast.formats.mover import messages as m
from holdfast.mover.line import Line

T = TypeVar("T")

_OPENING_S = 600.0
"""Opening may take the other side long: it looks at what an earlier attempt left."""


def expect(line: Line, kind: type[T]) -> T:
    """Return the next message, which is to be of a kind. Raises what the other side failed with."""
    message = line.receive(_OPENING_S)
    if message is None:
        raise LinkLost("the repository's mover did not answer")
    head, _ = m.decode_message(message.payload)
    line.release(message)
    if isinstance(head, m.Failure):
        raise m.failed(head)
    if not isinstance(head, kind):
        raise ProtocolError(f"{type(head).__name__} came instead of {kind.__name__}")
    return head
