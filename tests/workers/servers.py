"""Temporal servers for tests of processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workers.devserver import DevServer, DevServerAddress, DevServerSettings


@contextmanager
def server_in(folder: Path) -> Iterator[DevServerAddress]:
    """Yield the address of a healthy server without web pages that lives as long as the block."""
    server = DevServer(folder, DevServerSettings(is_headless=True))
    try:
        yield server.start()
    finally:
        server.kill()
