"""What counts where a provider stops to tell in the middle: spans in, spans out that leave nothing out."""

from collections.abc import Callable, Iterable, Iterator

from holdfast.errors import ChangeTrackingLost
from holdfast.model.spans import Span, clip

OnLoss = Callable[[ChangeTrackingLost, int], None]
"""Gets the error and the offset from which on nothing is known."""


def told_or_rest(spans: Iterable[Span], size: int, on_loss: OnLoss) -> Iterator[Span]:
    """Yield sorted spans; when telling them fails with `ChangeTrackingLost`, everything behind the last one follows.

    What lies between the last span and the place where telling failed counts too: only what was told is known.
    """
    end = 0
    try:
        for span in spans:
            yield span
            end = span.end
    except ChangeTrackingLost as error:
        on_loss(error, end)
        if end < size:
            yield Span(end, size - end)


def with_rest(spans: Iterable[Span], start: int, size: int) -> Iterator[Span]:
    """Yield sorted spans up to ``start``, and then everything."""
    yield from clip(spans, 0, start)
    if start < size:
        yield Span(start, size - start)
