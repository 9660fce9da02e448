"""A place like that of the demo, with a development server of its own, for scenarios with worker processes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from workers.demo.hypervisors import LocalHypervisor
from workers.demo.place import DemoPlace, prepare_place, write_configuration
from workers.devserver import DevServer, DevServerSettings

_ELSEWHERE = ("HOLDFAST_CONFIG", "HOLDFAST_HOME", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")


@contextmanager
def opened_place(folder: Path, *, with_pages: bool = False) -> Iterator[tuple[DemoPlace, DevServer]]:
    """Yield a configured place below a folder and the server it names, with web pages if wanted.

    Both are gone at the end.
    """
    place = prepare_place(folder)
    server = DevServer(place.home / "temporal", DevServerSettings(is_headless=not with_pages))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in _ELSEWHERE:
                patch.delenv(name, raising=False)
            address = server.start()
            write_configuration(place, address.grpc, address.namespace, LocalHypervisor(place, SystemClock()).table)
            yield place, server
    finally:
        server.kill()
        shutil.rmtree(place.root)
