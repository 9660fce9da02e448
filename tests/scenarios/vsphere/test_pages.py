"""Transport and change tracking of a vSphere session are readable in Temporal's web pages."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from temporalio.client import Client

from holdfast.model.session import Outcome
from tests.scenarios.browser import Browser, Pages, window
from tests.scenarios.vsphere.stage import Handle, Stage
from workers.devserver import DevServer, DevServerAddress
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.temporal,
    pytest.mark.vsphere,
    pytest.mark.tools("chromium", "chromedriver", "nbdkit"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    """A Temporal server with web pages."""
    server = DevServer(tmp_path_factory.mktemp("temporal"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="module")
async def temporal(server: DevServerAddress) -> Client:
    return await connect(TemporalSettings(address=server.grpc, namespace=server.namespace))


@pytest.fixture
def browser(tmp_path: Path, require_tool: Callable[[str], Path]) -> Iterator[Browser]:
    with window(require_tool("chromium"), require_tool("chromedriver"), tmp_path) as driver:
        assert isinstance(driver, webdriver.Chrome)
        yield Browser(driver, tmp_path)


async def test_a_session_says_over_which_way_it_read_and_how_far_it_believed_change_tracking(
    stage: Stage, server: DevServerAddress, browser: Browser
) -> None:
    assert server.ui is not None
    # The page asks the worker, which runs in this loop; so the browser is waited for in a thread.
    pages = Pages(server.ui, server.namespace)
    machine = stage.machine("web")
    await stage.run(stage.backup(machine))
    stage.write(machine)
    handle = await stage.start(stage.backup(machine))
    assert (await handle.result()).session.outcome is Outcome.SUCCESS
    table = await asyncio.to_thread(browser.read_table, page_of(pages, handle), "web", shot="increment")
    assert {row[2] for row in table if row[0] == "web"} == {"done"}
    text = await asyncio.to_thread(browser.read, page_of(pages, handle), "changed over direct: ", shot="increment-text")
    assert "the proxy sees datastore LocalDS_" in text

    stage.control("POST", "/power-loss", {"machine": machine.name})
    stage.switch_on(machine)
    stage.unmount()
    handle = await stage.start(stage.backup(machine))
    assert (await handle.result()).session.outcome is Outcome.WARNING
    stage.mount()
    url = page_of(pages, handle)
    text = await asyncio.to_thread(browser.read, url, "· warning", "tracking began anew", shot="warning")
    assert "read in full and compared instead of only what changed" in text
    assert "read over network because better ways failed: direct: " in text
    assert "compared over network: " in text
    assert text.partition("Session: ")[2].count(machine.machine_id) == 1


def page_of(pages: Pages, handle: Handle) -> str:
    assert handle.first_execution_run_id is not None
    return pages.of_run(handle.id, handle.first_execution_run_id, "user-metadata")
