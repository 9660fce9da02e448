"""The last words of a session, by the proxy."""

from contextlib import suppress

from holdfast import measures
from holdfast.errors import HoldfastError
from holdfast.formats.mover import messages as m
from holdfast.mover.line import Line

_FAREWELL_S = 5.0


def part(line: Line, last: m.AnyHead | None = None) -> None:
    """Say the last words, if there are any and somebody is there to hear them, and close a line.

    The other side knows then that its own have arrived; it would wait for that otherwise.
    """
    if last is not None and not line.is_away:
        with suppress(HoldfastError):  # the line is gone, and with it the session
            line.send(m.encode_message(last), _FAREWELL_S)
    line.wait_until_over(_FAREWELL_S)
    line.close()
    measures.RESENT.record(line.counters.resent_frames, side="proxy")
