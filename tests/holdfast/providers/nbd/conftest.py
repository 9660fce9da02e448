"""nbdkit servers of the distribution, and scripted ones."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from holdfast.providers.nbd.server import NbdServer, ServerPlan
from tests.conftest import find_tool
from tests.holdfast.providers.nbd.scripted import Script, ScriptedServer

Serve = Callable[..., NbdServer]
Play = Callable[[Script], ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start nbdkit: ``serve("memory", size="1M", is_read_only=False, filters=(...))``."""
    find_tool("nbdkit")
    with ExitStack() as stack:

        def start(
            *plugin: str, is_read_only: bool = True, filters: tuple[str, ...] = (), **parameters: str
        ) -> NbdServer:
            named = {_spelled(name): value for name, value in parameters.items()}
            plan = ServerPlan(plugin=plugin, parameters=named, is_read_only=is_read_only, filters=filters, timeout_s=20)
            return stack.enter_context(NbdServer(plan))

        yield start


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """Start a server that follows a script; one per test."""
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(ScriptedServer(tmp_path, script))


def _spelled(name: str) -> str:
    """Return a parameter as nbdkit spells it: those of filters have hyphens."""
    is_of_filter = name.startswith(("blocksize", "delay", "error", "multi"))
    return name.replace("_", "-") if is_of_filter else name
