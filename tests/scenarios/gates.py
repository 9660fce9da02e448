"""Stopping whoever passes a fault point of this process, and letting them go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.faults import set_hook


@contextmanager
def standing_at(point: str) -> Iterator[threading.Event]:
    """Let whoever passes a fault point wait until the block ends; the event says that somebody does."""
    reached, opened = threading.Event(), threading.Event()

    def wait(name: str) -> None:
        if name == point:
            reached.set()
            opened.wait(30)

    set_hook(wait)
    try:
        yield reached
    finally:
        set_hook(None)
        opened.set()
