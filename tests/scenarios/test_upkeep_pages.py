"""What becomes of chains can be read in Temporal's web pages: scheduled, by real workers, looked at in a browser."""

import asyncio
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from temporalio.client import Client, ScheduleActionExecutionStartWorkflow, WorkflowFailureError

from holdfast.clock import SystemClock
from holdfast.errors import DataDamaged
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.browser import Browser, Pages, window
from tests.scenarios.places import opened_place
from workers.demo.crew import ROLES, Command, Crew
from workers.demo.place import JOB, REPOSITORY, DemoPlace
from workers.devserver import DevServerAddress
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.temporal,
    pytest.mark.tools("chromium", "chromedriver"),
    pytest.mark.timeout(600),
]

MIB = 1 << 20
DISK_BYTES = 24 * MIB
CHANGED_BYTES = 4 * MIB
MACHINES = ("web01", "db01")
NEVER = "0 3 31 12 *"
"""The tests ask for each run."""
RULES = f'verify = true\nschedule = "{NEVER}"\n\n[jobs.retention]\npoints = 1\n'
READING = f'scrub = "{NEVER}"\nhealth_check = "{NEVER}"\n'

Tabs = Callable[[str], str]
"""Returns the address of a tab of one run."""


class Stage:
    """A server with web pages, a worker process of each role, and a job that keeps one point of each machine."""

    def __init__(self, place: DemoPlace, address: DevServerAddress, client: Client) -> None:
        assert address.ui is not None
        self.pages = Pages(address.ui, address.namespace)
        self._place = place
        self._client = client
        self._provider = LocalProvider(place.provider, SystemClock())

    def run(self, *words: str) -> dict[str, Any]:
        return Command(self._place, *words).result()

    def change(self) -> None:
        for machine in MACHINES:
            with self._provider.disk_paths(machine)[DiskKey("data")].open("r+b") as disk:
                disk.write(random.Random(machine).randbytes(CHANGED_BYTES))

    async def due(self, schedule: str) -> Tabs:
        """Let a schedule start its session now, and return its pages once it has ended."""
        handle = self._client.get_schedule_handle(schedule)
        await handle.trigger()
        async with asyncio.timeout(60):
            while not (runs := (await handle.describe()).info.recent_actions):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        began = runs[-1].action
        assert isinstance(began, ScheduleActionExecutionStartWorkflow)
        await self._client.get_workflow_handle(began.workflow_id).result()
        return lambda tab: self.pages.of_run(began.workflow_id, began.first_execution_run_id, tab)

    async def ask(self, *words: str, ends: str = "") -> Tabs:
        """Start a session as a user does, and return its pages once it has ended: well, or with a code."""
        began = self.run(*words, "--detach")
        handle = self._client.get_workflow_handle(began["workflow_id"], run_id=began["run_id"])
        if not ends:
            await handle.result()
        else:
            with pytest.raises(WorkflowFailureError) as failed:
                await handle.result()
            assert ends in str(failed.value.cause)
        return lambda tab: self.pages.of_run(began["workflow_id"], began["run_id"], tab)

    def child(self, session: Tabs, kind: str, browser: Browser) -> Tabs:
        """Follow the link from a session to the first child of a kind."""
        link = browser.find_link(session("relationships"), f"workflows/{kind}", f"{kind}-link")
        return lambda tab: f"{link.rpartition('/')[0]}/{tab}"

    def damage(self, machine: str) -> None:
        """Change one stored byte in the middle of the newest full of a machine."""
        path = max(self._place.repository.glob(f"machines/{machine}-*/*/*-full.hfc"))
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with opened_place(tmp_path_factory.mktemp("upkeep-pages"), with_pages=True) as (place, server):
        address = server.start()
        text = place.config.read_text("utf-8").replace(f'name = "{REPOSITORY}"\n', f'name = "{REPOSITORY}"\n{READING}')
        place.config.write_text(text + RULES)
        provider = LocalProvider.create(place.provider, SystemClock())
        for machine in MACHINES:
            disk = place.disks / f"{machine}.raw"
            disk.write_bytes(random.Random(len(machine)).randbytes(DISK_BYTES))
            provider.add_machine(machine, {DiskKey("data"): disk})
        Repository.create(place.repository, HostFiles(), "ab" * 16, SystemClock().now())
        with Crew(place, SystemClock()) as crew:
            for role in ROLES:
                crew.start(role)
            client = await connect(TemporalSettings(address=address.grpc, namespace=address.namespace))
            stage = Stage(place, address, client)
            stage.run("schedule", "apply")
            yield stage


@pytest.fixture
def browser(tmp_path: Path, require_tool: Callable[[str], Path]) -> Iterator[Browser]:
    with window(require_tool("chromium"), require_tool("chromedriver"), tmp_path) as driver:
        assert isinstance(driver, webdriver.Chrome)
        yield Browser(driver, tmp_path)


async def test_a_scheduled_session_says_what_it_verified_and_merged(stage: Stage, browser: Browser) -> None:
    stage.run("backup", JOB)
    stage.change()
    session = await stage.due(f"job/{JOB}")
    details = session("user-metadata")
    disks = browser.read_table(details, "Disk", "done", shot="session-disks")
    assert sorted(row[:3] for row in disks[1:-1]) == [["db01", "data", "done"], ["web01", "data", "done"]]
    chains = browser.read_table(details, "Step", "Retention", shot="session-chains")
    assert sorted(row[:2] for row in chains[1:]) == [["db01", "Retention"], ["web01", "Retention"]]
    assert all(re.fullmatch(r"1 kept, 1 merged \(4(\.\d)? MiB moved\)", row[2]) for row in chains[1:])
    text = browser.read(details, f"backup {JOB} · success", shot="session")
    assert re.search(r"Verified: 2 of 2 new points, 48(\.\d)? MiB read back, nothing is damaged", text)
    assert re.search(r"Retention: 2 kept, 2 merged \(8(\.\d)? MiB moved\), of 2 machines", text)
    browser.read(session("timeline"), "db01: upkeep of its chains in vault", shot="session-timeline")

    machine = stage.child(session, "backup-machine", browser)
    browser.read(machine("user-metadata"), "Verified: 24", "nothing is damaged", shot="machine")
    upkeep = stage.child(session, "upkeep-machine", browser)
    steps = browser.read_table(upkeep("user-metadata"), "Step", "State", shot="upkeep-steps")
    assert re.fullmatch(r"merging 1 file into 00000001-full\.hfc, of 000001-[0-9a-f]{8}", steps[1][0])
    assert re.fullmatch(r"done, 4(\.\d)? MiB moved", steps[1][2])
    points = browser.read_table(upkeep("user-metadata"), "Becomes", "merged", shot="upkeep")
    assert [row[2:] for row in points[1:]] == [["merged", "outdated"], ["kept", "one of the newest 1"]]
    browser.read(
        upkeep("timeline"),
        re.compile(r"retention.plan • plan for (web|db)01"),
        re.compile(r"retention.carry_out • (web|db)01: merging 1 file into 00000001-full.hfc, 4(\.\d)? MiB"),
        re.compile(r"retention.settle • (web|db)01: 1 point gone"),
        shot="upkeep-timeline",
    )


async def test_what_is_deleted_says_why_and_when_its_room_is_free(stage: Stage, browser: Browser) -> None:
    session = await stage.ask("backup", JOB, "--full")
    browser.read(
        session("user-metadata"), re.compile(r"Retention: 2 kept, 2 deleted \(56(\.\d)? MiB\)"), shot="replaced-session"
    )
    upkeep = stage.child(session, "upkeep-machine", browser)
    steps = browser.read_table(upkeep("user-metadata"), "Step", "State", shot="replaced-steps")
    assert steps[1][0].startswith("removing 1 file, of 000001-")
    assert re.fullmatch(r"done, 28(\.\d)? MiB free in 7 days", steps[1][2])
    points = browser.read_table(upkeep("user-metadata"), "Becomes", "deleted", shot="replaced")
    assert points[1][2:] == ["deleted", "outdated, as all points of its chain are"]

    grave = stage.run("retention", "removed")["removed"][0]
    purge = await stage.ask("retention", "purge", grave["chain"])
    told = re.compile(rf"Purged: 1 file of {grave['chain']} deleted, 28(\.\d)? MiB freed")
    browser.read(purge("user-metadata"), told, "· success", "deleting what was removed", shot="purge")
    browser.read(purge("timeline"), f"retention.purge • {grave['chain']}, by hand", shot="purge-timeline")


async def test_a_scheduled_health_check_says_what_it_read_of_each_machine(stage: Stage, browser: Browser) -> None:
    check = await stage.due(f"health/{REPOSITORY}/check")
    chains = browser.read_table(check("user-metadata"), "Chain", "as it was written", shot="check")
    assert [row[0].partition("-")[0] for row in chains[1:]] == ["db01", "web01"]
    assert all(row[1] == "1" and re.fullmatch(r"24(\.\d)? MiB", row[2]) for row in chains[1:])
    text = browser.read(check("user-metadata"), f"health check of {REPOSITORY} · success", shot="check-text")
    assert re.search(r"Checked: the newest points: 2 points of 2 chains, 48(\.\d)? MiB stored", text)
    browser.read(check("timeline"), "repository.verify • vault newest points", shot="check-timeline")


async def test_a_scrub_that_finds_damage_says_where_it_is(stage: Stage, browser: Browser) -> None:
    stage.damage("db01")
    scrub = await stage.ask("health", "scrub", "--days", "1", "--no-repair", ends=DataDamaged.code)
    chains = browser.read_table(scrub("user-metadata"), "Chain", "1 damaged place", shot="scrub")
    assert [(row[0].partition("-")[0], row[3]) for row in chains[1:]] == [
        ("db01", "1 damaged place"),
        ("web01", "as it was written"),
    ]
    text = browser.read(scrub("user-metadata"), f"scrub of {REPOSITORY} · failed", shot="scrub-text")
    assert f"{DataDamaged.code}: 1 damaged place in repository {REPOSITORY}" in text
    assert re.search(r"damaged: point \d of db01, disk data at \d+ \(\d+ bytes\)", text)
    code = f'"HoldfastErrorCode": "{DataDamaged.code}"'
    browser.read(scrub("search-attributes"), '"HoldfastResult": "failed"', code, shot="scrub-attributes")
