"""A host that starts no thread for a moment costs that moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from holdfast.mover.threads import try_start
from tests.holdfast.mover.movers import Site

TIMES = 3


@contextmanager
def refusing(name: str, asked_by: str = "") -> Iterator[list[str]]:
    """Refuse the first threads of a name, those that a thread of another name starts; yield who was refused."""
    refused: list[str] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        is_meant = thread.name == name and threading.current_thread().name.startswith(asked_by)
        if is_meant and len(refused) < TIMES:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield refused


def test_a_thread_that_is_refused_is_an_error_of_the_host() -> None:
    thread = threading.Thread(target=int, name="wanted")
    with refusing("wanted"), pytest.raises(OSError, match="no thread can be started: can't start new thread"):
        try_start(thread)
    try_start(thread)
    thread.join()


@pytest.mark.parametrize(
    "name, asked_by",
    [
        ("mover-greet", ""),
        ("mover-session", ""),
        ("mover-time", "mover-greet"),
        ("mover-carry", "mover-greet"),
        ("mover-dial", ""),
        ("mover-carry", "mover-dial"),
    ],
)
def test_a_disk_comes_over_although_threads_are_refused_at_first(site: Site, name: str, asked_by: str) -> None:
    opened = site.begin()
    with site.server() as server, refusing(name, asked_by) as refused:
        site.transfer(server.address, site.access(opened))
        assert refused == [name] * TIMES
    site.finish(opened)
