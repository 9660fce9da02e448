"""What every test may ask for: a seed, a clean environment for child processes, a tool of the host.

Variables:

- ``HOLDFAST_SEED``: repeats a run with the seed that it printed.
- ``HOLDFAST_YEARS``: how many simulated years a soak run lives through, 20 unless told otherwise.
- ``HOLDFAST_CI=1``: what would be skipped because the host lacks something fails instead.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import hypothesis
import pytest

IS_CI = os.environ.get("HOLDFAST_CI") == "1"
YEARS = int(os.environ.get("HOLDFAST_YEARS", "20"))

# In CI the host has everything these need, so a skip would hide a loss.
NEVER_SKIPPED = ("temporal", "tools", "vsphere")

# Programs of file systems stand in folders that are not on everybody's PATH.
TOOL_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

# Of a failure's text, what is printed at once in CI; the whole stands at the end of the run.
LINES_AT_ONCE = 12

SEED_KEY = pytest.StashKey[int]()

# No deadline: the cores may be shared. The blob repeats a failing example anywhere.
hypothesis.settings.register_profile("holdfast", deadline=None, print_blob=True)
hypothesis.settings.load_profile("holdfast")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed of the run once; worker processes take the one of their controller."""
    worker_input: dict[str, int] = getattr(config, "workerinput", {})
    chosen = os.environ.get("HOLDFAST_SEED")
    fallback = int(chosen) if chosen else secrets.randbelow(2**32)
    config.stash[SEED_KEY] = worker_input.get("holdfast_seed", fallback)


def pytest_sessionstart(session: pytest.Session) -> None:
    """In CI, print failures at once."""
    plugins = session.config.pluginmanager
    terminal = plugins.get_plugin("terminalreporter")
    if IS_CI and isinstance(terminal, pytest.TerminalReporter):
        plugins.register(FailuresAtOnce(terminal))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Hand the seed of the run to a worker process."""
    node.workerinput["holdfast_seed"] = node.config.stash[SEED_KEY]  # type: ignore[attr-defined] # untyped plugin


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_report_header(config: pytest.Config) -> str:
    """Print the seed, so that a failing run can be repeated."""
    return f"seed: {config.stash[SEED_KEY]} (repeat with HOLDFAST_SEED={config.stash[SEED_KEY]})"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Check the tools named by ``@pytest.mark.tools("mkfs.xfs", ...)`` before the test starts."""
    for mark in item.iter_markers("tools"):
        for name in mark.args:
            find_tool(name)


class FailuresAtOnce:
    """Prints what failed and why as soon as it fails: a run that is stopped has then told it, too."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.ensure_newline()
            reason = report.longreprtext.strip().splitlines()[-LINES_AT_ONCE:]
            self._terminal.write_line(f"{report.nodeid} ({report.when}, {report.duration:.0f} s)")
            self._terminal.write_line("\n".join(f"    {line}" for line in reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed beside a failure, and let no test that CI relies on be skipped."""
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(("seed", pytest_report_header(item.config)))
    relied_on = IS_CI and any(item.get_closest_marker(name) for name in NEVER_SKIPPED)
    if relied_on and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"may not be skipped in CI: {report.longrepr}"
    return report


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Seed of this test: follows from the seed of the run and the test's name, not from order."""
    source = f"{request.config.stash[SEED_KEY]} {request.node.nodeid}".encode()
    return int.from_bytes(hashlib.blake2b(source, digest_size=8).digest(), "big")


@pytest.fixture
def child_environment() -> dict[str, str]:
    """Environment for a child process, without what would configure Holdfast or Temporal."""
    ours = ("HOLDFAST_", "TEMPORAL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], Path]:
    """Return a function that finds a program of the host or ends the test."""
    return find_tool


def find_tool(name: str) -> Path:
    """Return the path of a program; where it is missing the test is skipped, in CI it fails."""
    found = shutil.which(name, path=TOOL_PATH)
    if found is not None:
        return Path(found)
    message = f"{name} is not on this host; .ci/run installs it"
    if IS_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
