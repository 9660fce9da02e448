"""A session reads like a report in Temporal's web pages: looked at in a real browser, while it runs and afterwards."""

import fcntl
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver

from holdfast.clock import SystemClock
from holdfast.errors import MachineNotFound
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.browser import Browser, Pages, window
from workers.devserver import DevServer

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.tools("chromium", "chromedriver")]

MIB = 1 << 20
# Everything that means something to HTML, to Markdown, to its tables, or to a typesetter.
OFFICE = "Büro 1/ö <b>|*x* 1/2 --a (c) &lt;"
LARGE = "db 1"
LARGE_BYTES = 96 * MIB
DEADLINE_S = 60
HEADINGS = ["Machine", "Disk", "State", "Size", "Read", "Sent", "Stored", "Ratio"]
DONE = "done"
WHY = "full over direct: no earlier point of this disk; the disk is a file or a device of this host"

COMMAND = "from workers.cli.main import main; main()"
# The product's own worker. While somebody holds the gate it stands still behind the 64th unit: as at most 48 MiB are
# uncommitted at any time, there has been a commit by then.
WORKER = """
import fcntl, sys
from holdfast.faults import set_hook
from workers.cli.main import main

gate, units = sys.argv.pop(1), 0

def wait_at_gate(name):
    global units
    if name != "pipe.unit_written":
        return
    with open(gate) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            units = 0
        except BlockingIOError:
            units += 1
            if units >= 64:
                fcntl.flock(file, fcntl.LOCK_SH)

set_hook(wait_at_gate)
main()
"""


Tabs = Callable[[str], str]
"""Returns the address of a tab of one run."""


class Site:
    """A Temporal server with web pages, a worker of all roles in a process of its own, and machines to protect."""

    def __init__(self, root: Path, pages: Pages) -> None:
        self.pages = pages
        self._config = root / "holdfast.toml"
        self._gate = root / "gate"
        self._log = root / "worker.log"
        self._gate.touch()

    def begin(self, job: str) -> Tabs:
        """Start a session of a job and return where its pages are."""
        words = ("backup", job, "--detach", "--json", "--config", str(self._config))
        command = [sys.executable, "-c", COMMAND, *words]
        done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        answer = json.loads(done.stdout)
        return lambda tab: self.pages.of_run(answer["workflow_id"], answer["run_id"], tab)

    @contextmanager
    def gate_closed(self) -> Iterator[None]:
        """Let transfers stand still behind a commit inside the block."""
        with self._gate.open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep the worker running."""
        command = [sys.executable, "-c", WORKER, str(self._gate), "worker", "all", "--config", str(self._config)]
        with self._log.open("wb") as log:
            worker = subprocess.Popen(command, env={}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
            assert worker.poll() is None, self._log.read_text("utf-8")
        finally:
            worker.terminate()
            try:
                worker.wait(DEADLINE_S)
            finally:
                worker.kill()
                worker.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = tmp_path_factory.mktemp("site")
    server = DevServer(root / "temporal")
    try:
        address = server.start()
        assert address.ui is not None
        write_configuration(root, address.grpc, address.namespace)
        make_machines(root)
        site = Site(root, Pages(address.ui, address.namespace))
        with site.working():
            yield site
    finally:
        server.kill()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, require_tool: Callable[[str], Path]) -> Iterator[webdriver.Chrome]:
    home = tmp_path_factory.mktemp("browser")
    with window(require_tool("chromium"), require_tool("chromedriver"), home) as driver:
        yield driver


@pytest.fixture
def browser(driver: webdriver.Chrome, tmp_path: Path) -> Browser:
    return Browser(driver, tmp_path)


@pytest.fixture(scope="module")
def office(site: Site) -> Tabs:
    """Pages of a session that ends well."""
    return site.begin("office")


@pytest.fixture(scope="module")
def office_machine(office: Tabs, driver: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Tabs:
    """Pages of the session's only machine."""
    return pages_of_machine(office, Browser(driver, tmp_path_factory.mktemp("relationships")))


def test_a_finished_session_shows_a_row_for_every_disk_and_the_sums(office: Tabs, browser: Browser) -> None:
    expect_finished_table(browser.read_table(office("user-metadata"), DONE, shot="session-details"))
    text = browser.read(office("user-metadata"), "office: Büro 1/ö", "· success", shot="session-metadata")
    assert "backup office · success" in text
    assert "Extent: vault (only extent)" in text
    assert re.search(r"Bottleneck: \w+ \(Source \d+ %, Proxy \d+ %, Target \d+ %\)", text)
    assert f"{OFFICE} (system, data|1): {WHY}" in text


def test_a_finished_session_is_found_by_its_attributes(office: Tabs, browser: Browser) -> None:
    text = browser.read(office("search-attributes"), '"HoldfastResult": "success"', shot="session-attributes")
    for name, value in {"Job": "office", "Kind": "backup", "Repository": "vault"}.items():
        assert f'"Holdfast{name}": "{value}"' in text
    assert re.search(r'"HoldfastStoredBytes": 9\d{6}\b', text)


def test_a_finished_machine_shows_its_own_report(office_machine: Tabs, browser: Browser) -> None:
    machine = office_machine
    expect_finished_table(browser.read_table(machine("user-metadata"), DONE, shot="machine-details"))
    text = browser.read(machine("user-metadata"), "2 disks, 38 MiB -> vault", "· success", shot="machine-metadata")
    assert f"backup of {OFFICE} · success" in text
    assert re.search(r"Restore point: [0-9a-f]{12}, full: no chain of this machine yet", text)
    assert re.search(r"File: machines/b-ro-1[a-z0-9-]+/000001-[0-9a-f]{8}/00000001-full\.hfc", text)
    assert f'"HoldfastMachine": "{OFFICE}"' in browser.read(
        machine("search-attributes"), '"HoldfastResult": "success"', shot="machine-attributes"
    )


def test_the_timelines_say_what_was_done_with_what(office: Tabs, office_machine: Tabs, browser: Browser) -> None:
    browser.read(
        office("timeline"),
        "snapshot.find_machines • office at lab",
        f"{OFFICE}: 2 disks, 38 MiB -> vault",
        "catalog.finish_session • session success",
        shot="session-timeline",
    )
    browser.read(
        office_machine("timeline"),
        f"snapshot.create • {OFFICE}",
        f"transfer.copy_disk • {OFFICE}/system 6 MiB -> vault",
        f"transfer.copy_disk • {OFFICE}/data|1 32 MiB -> vault",
        f"repository.finish_point • {OFFICE}",
        shot="machine-timeline",
    )


def test_a_running_transfer_shows_how_far_it_is(site: Site, browser: Browser) -> None:
    with site.gate_closed():
        session = site.begin("large")
        machine = pages_of_machine(session, browser)
        text = browser.read(
            machine("pending-activities"), re.compile(r'"committed_bytes": [1-9]'), shot="running-activity"
        )
        assert "transfer.copy_disk" in text
        cursor = {name: int(value) for name, value in re.findall(r'"(\w+_bytes)": (\d+)', text)}
        assert cursor["size_bytes"] == LARGE_BYTES
        assert 0 < cursor["committed_bytes"] <= cursor["reached_bytes"] < LARGE_BYTES
        table = browser.read_table(machine("user-metadata"), "transferring", shot="running-machine")
        assert table[1:] == [
            [LARGE, "disk0", "transferring", "96 MiB", *[""] * 4],
            ["all", "1 disk", "", "96 MiB", *[""] * 4],
        ]
        text = browser.read(session("user-metadata"), "backup large · running", shot="running-session")
        assert "protecting machines" in text
        browser.read(site.pages.workflows, "backup/large", "backup-machine/vault/db-1-", "RUNNING", shot="running-list")
    browser.read_table(session("user-metadata"), DONE, shot="after-the-gate")


def test_a_failed_session_shows_code_and_hint(site: Site, browser: Browser) -> None:
    session = site.begin("lost")
    reason = f"{MachineNotFound.code}: job lost finds no machine at provider lab"
    text = browser.read(session("user-metadata"), reason, "lost: no such machine -> vault", shot="failed-metadata")
    assert "backup lost · failed" in text
    assert MachineNotFound.default_hint in text
    assert "not protected: no such machine: no machine has the id or name" in text
    text = browser.read(session("search-attributes"), '"HoldfastResult": "failed"', shot="failed-attributes")
    assert f'"HoldfastErrorCode": "{MachineNotFound.code}"' in text
    text = browser.read(session("timeline"), "catalog.finish_session • session failed", shot="failed-timeline")
    assert f"failed: {reason}" in text


def pages_of_machine(session: Tabs, browser: Browser) -> Tabs:
    """Follow the link from a session to its only machine."""
    link = browser.find_link(session("relationships"), "workflows/backup-machine", shot="relationships")
    return lambda tab: f"{link.rpartition('/')[0]}/{tab}"


def expect_finished_table(table: list[list[str]]) -> None:
    """Check the report of the office's two disks; what was written on them cannot be compressed."""
    assert table[0] == HEADINGS
    assert [row[:5] for row in table[1:]] == [
        [OFFICE, "system", "done", "6 MiB", "6 MiB"],
        [OFFICE, "data|1", "done", "32 MiB", "3 MiB"],
        ["all", "2 disks", "", "38 MiB", "9 MiB"],
    ]
    for row, mib in zip(table[1:], (6, 3, 9), strict=True):
        assert all(re.fullmatch(rf"{mib}(\.\d)? MiB", cell) for cell in row[5:7]), row
        assert row[7] == "1.0:1"


def make_machines(root: Path) -> None:
    provider = LocalProvider.create(root / "hypervisor", SystemClock())
    system = raw_disk(root / "system.raw", 6 * MIB, 6 * MIB)
    data = raw_disk(root / "data.raw", 32 * MIB, 3 * MIB)
    provider.add_machine(OFFICE, {DiskKey("system"): system, DiskKey("data|1"): data})
    provider.add_machine(LARGE, {DiskKey("disk0"): raw_disk(root / "large.raw", LARGE_BYTES, LARGE_BYTES)})
    Repository.create(root / "vault", HostFiles(), "web-pages", SystemClock().now())


def raw_disk(path: Path, size_bytes: int, written_bytes: int) -> Path:
    """Make a sparse raw disk that begins with bytes that cannot be compressed."""
    with path.open("wb") as disk:
        disk.write(random.Random(size_bytes).randbytes(written_bytes))
        disk.truncate(size_bytes)
    return path


def write_configuration(root: Path, grpc: str, namespace: str) -> None:
    def quoted(value: object) -> str:
        return json.dumps(str(value))

    tables = [
        f"home = {quoted(root / 'home')}",
        f"[temporal]\naddress = {quoted(grpc)}\nnamespace = {quoted(namespace)}",
        f'[[providers]]\nname = "lab"\npath = {quoted(root / "hypervisor")}',
        f'[[repositories]]\nname = "vault"\npath = {quoted(root / "vault")}',
        '[[proxies]]\nname = "p1"',
    ]
    places = 'provider = "lab"\nrepository = "vault"\nproxy = "p1"'
    for job, machine in {"office": OFFICE, "large": LARGE, "lost": "no such machine"}.items():
        tables.append(f'[[jobs]]\nname = "{job}"\n{places}\nmachines = [{quoted(machine)}]')
    (root / "holdfast.toml").write_text("\n\n".join(tables) + "\n", "utf-8")
