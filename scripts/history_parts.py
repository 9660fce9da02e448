"""What recording a history needs: a place to stop a session at, and a document that tells nothing of this machine."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from holdfast.faults import set_hook

NEUTRAL_ROOT: Final = "/srv/holdfast"
_DEADLINE_S: Final = 60


class Gate:
    """A fault point at which threads wait."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()


@contextmanager
def gate_at(point: str) -> Iterator[Gate]:
    """Let whoever passes the fault point ``point`` wait until the block ends."""
    gate = Gate()

    def wait(name: str) -> None:
        if name == point:
            gate.reached.set()
            gate.opened.wait(_DEADLINE_S)

    set_hook(wait)
    try:
        yield gate
    finally:
        set_hook(None)
        gate.opened.set()


def neutral(value: Any, root: str) -> Any:  # noqa: ANN401 - a JSON document
    """Return a history without paths of this machine and without stack traces, which no replay looks at."""
    match value:
        case dict():
            kept = {key: neutral(inner, root) for key, inner in value.items() if key != "stackTrace"}
            if isinstance(value.get("data"), str):
                data = base64.b64decode(value["data"]).replace(root.encode(), NEUTRAL_ROOT.encode())
                kept["data"] = base64.b64encode(data).decode()
            return kept
        case list():
            return [neutral(inner, root) for inner in value]
        case str():
            return value.replace(root, NEUTRAL_ROOT)
        case _:
            return value
