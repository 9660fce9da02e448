"""One development server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from workers.devserver import DevServer, DevServerAddress, DevServerSettings


@pytest.fixture(scope="session")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    """Address of a healthy server without web pages."""
    server = DevServer(tmp_path_factory.mktemp("temporal"), DevServerSettings(is_headless=True))
    try:
        yield server.start()
    finally:
        server.kill()
