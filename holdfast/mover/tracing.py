"""One trace over both movers: the context of the proxy's work travels in the first message of a session.

It is a `traceparent` of W3C Trace Context. Where nobody collects traces there is none, and nothing happens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from holdfast.formats.mover.messages import TRACE_MAX

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_FIELD: Final = "traceparent"


def traceparent() -> str:
    """Return the context of what this thread does now; empty when it is not traced."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    found = carrier.get(_FIELD, "")
    return found if len(found) <= TRACE_MAX else ""


@contextmanager
def continued(name: str, parent: str, **attributes: str) -> Iterator[None]:
    """Do something as a part of a peer's trace; without one, or with one that cannot be read, just do it."""
    context = _PROPAGATOR.extract({_FIELD: parent})
    if not trace.get_current_span(context).get_span_context().is_valid:
        yield
        return
    tracer = trace.get_tracer(__name__)
    with tracer.start_as_current_span(name, context, kind=trace.SpanKind.SERVER, attributes=attributes):
        yield
