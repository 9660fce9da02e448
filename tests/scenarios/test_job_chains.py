"""Two machines in one chain of their job: one fails, a worker dies, points are merged, and each is restored."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import SessionFailed
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.places import opened_place
from workers.demo.crew import ROLES, Command, Crew, chain_files, wait_until_written
from workers.demo.disks import sha256_of
from workers.demo.place import JOB, DemoPlace

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
SIZES = {"db01": 96 * MIB, "web01": 24 * MIB}
DISK = DiskKey("data")
LAYOUT = 'chain = "per-job"\nmethod = "forward"\nactive_full = "first sunday"\n'


class Stage:
    """A server, a worker process of each role, and two machines in one job."""

    def __init__(self, place: DemoPlace, crew: Crew) -> None:
        self.place, self.crew = place, crew
        self.provider = LocalProvider(place.provider, SystemClock())
        self.seed = 0

    def disk(self, machine: str) -> Path:
        return self.provider.disk_paths(machine)[DISK]

    def change(self) -> None:
        for machine, size in SIZES.items():
            self.seed += 1
            with self.disk(machine).open("r+b") as file:
                file.seek(self.seed * MIB)
                file.write(random.Random(self.seed).randbytes(size // 2))

    def run(self, *words: str) -> dict[str, Any]:
        return Command(self.place, *words).result()

    def lose_snapshot(self, machine: str, command: Command) -> None:
        """Take the snapshot of a machine away as soon as it is there."""
        pause, machine_id = threading.Event(), self.provider.machine(machine).machine_id
        while not (found := self.provider.snapshots(machine_id)):
            assert command.is_running(), command.result()
            pause.wait(0.002)
        self.provider.remove_snapshot(machine_id, found[0].snapshot_id)

    def listed(self, machine: str) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = self.run("points", "--machine", machine)["points"]
        return points

    def points(self, machine: str) -> list[str]:
        return [point["id"] for point in self.listed(machine)]

    def expect_identical(self, machine: str) -> None:
        """Restore the newest point of a machine and compare every byte with its disk."""
        self.seed += 1
        name = f"restored-{self.seed}"
        self.run("restore", "latest", "--machine", machine, "--as", name)
        assert sha256_of(self.disk(name)) == sha256_of(self.disk(machine))
        self.disk(name).unlink()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened_place(tmp_path_factory.mktemp("job-chains")) as (place, _server):
        text = place.config.read_text("utf-8")
        place.config.write_text(text.replace(f'name = "{JOB}"\n', f'name = "{JOB}"\n{LAYOUT}'))
        provider = LocalProvider.create(place.provider, SystemClock())
        for number, (machine, size) in enumerate(SIZES.items()):
            disk = place.disks / f"{machine}.raw"
            disk.write_bytes(random.Random(100 + number).randbytes(size))
            provider.add_machine(machine, {DISK: disk})
        Repository.create(place.repository, HostFiles(), "ab" * 16, SystemClock().now())
        with Crew(place, SystemClock()) as crew:
            for role in ROLES:
                crew.start(role)
            yield Stage(place, crew)


def test_one_machine_fails_and_the_other_has_its_point(stage: Stage) -> None:
    first = stage.run("backup", JOB)
    assert len({(point["chain"], point["file"]) for point in first["points"]}) == 1
    stage.change()
    command = Command(stage.place, "backup", JOB)
    stage.lose_snapshot("db01", command)
    with pytest.raises(SessionFailed, match="snapshot-not-found"):
        command.result()
    assert (len(stage.points("web01")), len(stage.points("db01"))) == (2, 1)
    stage.expect_identical("web01")
    stage.run("backup", JOB)
    assert (len(stage.points("web01")), len(stage.points("db01"))) == (3, 2)
    for machine in SIZES:
        stage.expect_identical(machine)
    assert len(chain_files(stage.place.repository)) == 3


def test_a_worker_that_dies_in_the_middle_goes_on(stage: Stage) -> None:
    known = chain_files(stage.place.repository)
    stage.change()
    command = Command(stage.place, "backup", JOB)
    assert wait_until_written(stage.place.repository, known, 20 * MIB, command)
    stage.crew.kill("proxy")
    stage.crew.start("proxy")
    document = command.result()
    assert document["session"]["outcome"] == "success", document
    for machine in SIZES:
        stage.expect_identical(machine)
    assert stage.run("verify", "--all", "--offline")["report"]["points"] == 7


def test_a_full_begins_a_new_chain_for_both(stage: Stage) -> None:
    before = {path.parent for path in chain_files(stage.place.repository)}
    document = stage.run("backup", JOB, "--full")
    [chain] = {point["chain"] for point in document["points"]}
    assert {point["kind"] for point in document["points"]} == {"full"}
    assert stage.place.repository / chain not in before
    for machine in SIZES:
        stage.expect_identical(machine)


def test_increments_of_both_are_merged_and_a_machine_that_failed_keeps_its_point(stage: Stage) -> None:
    config = stage.place.config
    forever = LAYOUT.replace('method = "forward"\nactive_full = "first sunday"', 'method = "forever"')
    config.write_text(config.read_text("utf-8").replace(LAYOUT, forever) + "\n[jobs.retention]\npoints = 2\n")
    stage.run("retention", "run", JOB, "--yes")
    for _ in range(2):
        stage.change()
        stage.run("backup", JOB)
    stage.change()
    command = Command(stage.place, "backup", JOB)
    stage.lose_snapshot("db01", command)
    with pytest.raises(SessionFailed, match="snapshot-not-found"):
        command.result()
    stage.run("retention", "run", JOB)
    web, db = ([point["number"] for point in stage.listed(machine)] for machine in ("web01", "db01"))
    assert len(web) == 2
    assert 1 <= len(db) <= 2
    assert len(chain_files(stage.place.repository)) == 2
    stage.expect_identical("web01")
    stage.run("backup", JOB)
    for machine in SIZES:
        stage.expect_identical(machine)
    stage.run("compact", "--machine", "db01")
    assert stage.run("verify", "--all", "--offline")["report"]["damages"] == []
    for machine in SIZES:
        stage.expect_identical(machine)
        assert {point["chain"] for point in stage.listed(machine)} == {stage.listed("web01")[0]["chain"]}
