"""A worker dies in the middle of a merge: a real server, real workers, SIGKILL, and every byte compared afterwards."""

import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.demo.crew import ROLES, Command, Crew, chain_files
from workers.demo.disks import sha256_of
from workers.demo.hypervisors import LocalHypervisor
from workers.demo.place import JOB, DemoPlace, prepare_place, write_configuration
from workers.devserver import DevServer, DevServerSettings

# The first test also pays for the start of everything.
pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
DISK_BYTES = 160 * MIB
MID_MERGE_BYTES = 72 * MIB
"""More than one commit of 64 MiB, and far from the end."""
MACHINE, DISK = "web01", DiskKey("data")
RETENTION = "\n[jobs.retention]\npoints = 1\ngrace = 1\n"


class Stage:
    """A server, a worker process of each role, and a machine whose job keeps one point."""

    def __init__(self, place: DemoPlace, crew: Crew) -> None:
        self.place = place
        self.crew = crew
        self.provider = LocalProvider(place.provider, SystemClock())
        self.changes = 0

    def change(self) -> None:
        """Write all of the disk anew; it does not compress."""
        self.changes += 1
        self.provider.disk_paths(MACHINE)[DISK].write_bytes(random.Random(self.changes).randbytes(DISK_BYTES))

    def start(self, *words: str) -> Command:
        return Command(self.place, *words)

    def run(self, *words: str) -> dict[str, Any]:
        return self.start(*words).result()

    def full(self) -> Path:
        [path] = [path for path in chain_files(self.place.repository) if path.name.endswith("-full.hfc")]
        return path

    def points(self) -> list[str]:
        return [point["id"] for point in self.run("points")["points"]]

    def expect_identical(self, point: str) -> None:
        """Restore a point and compare every byte with the machine's disk."""
        name = f"restored-{point[:12]}-{self.changes}"
        self.run("restore", point, "--as", name)
        restored = self.provider.disk_paths(name)[DISK]
        assert sha256_of(restored) == sha256_of(self.provider.disk_paths(MACHINE)[DISK])
        restored.unlink()

    def until_merging(self, command: Command, size: int) -> None:
        """Return in the middle of a merge into a full of this size."""
        pause = threading.Event()
        while self.full().stat().st_size < size + MID_MERGE_BYTES:
            assert command.is_running(), command.result()
            pause.wait(0.001)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = prepare_place(tmp_path_factory.mktemp("retention"))
    server = DevServer(place.home / "temporal", DevServerSettings(is_headless=True))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("HOLDFAST_CONFIG", "HOLDFAST_HOME", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
                patch.delenv(name, raising=False)
            address = server.start()
            write_configuration(place, address.grpc, address.namespace, LocalHypervisor(place, SystemClock()).table)
            text = place.config.read_text("utf-8").replace('"web01", "db01"', f'"{MACHINE}"')
            place.config.write_text(text + RETENTION)
            disk = place.disks / "data.raw"
            disk.write_bytes(random.Random(0).randbytes(DISK_BYTES))
            LocalProvider.create(place.provider, SystemClock()).add_machine(MACHINE, {DISK: disk})
            Repository.create(place.repository, HostFiles(), "ab" * 16, SystemClock().now())
            with Crew(place, SystemClock()) as crew:
                for role in ROLES:
                    crew.start(role)
                yield Stage(place, crew)
    finally:
        server.kill()
        shutil.rmtree(place.root)


def test_a_worker_that_dies_in_the_middle_of_a_merge_goes_on_at_its_last_commit(stage: Stage) -> None:
    first = stage.run("backup", JOB)
    assert first["retained"] == {
        "kept": 1, "merged": 0, "deleted": 0, "held": 0, "moved_bytes": 0, "freed_bytes": 0,
    }  # fmt: skip
    stage.change()
    size = stage.full().stat().st_size
    command = stage.start("backup", JOB)
    stage.until_merging(command, size)
    stage.crew.kill("repository")
    assert len(chain_files(stage.place.repository)) == 2
    [newest] = [point for point in stage.points() if point != first["points"][0]["point_id"]]
    stage.crew.start("repository")
    document = command.result()
    assert document["session"]["outcome"] == "success", document
    assert document["retained"]["merged"] == 1
    assert stage.points() == [newest]
    assert len(chain_files(stage.place.repository)) == 1
    # What moved before the last commit is not moved again.
    assert stage.full().stat().st_size < size + DISK_BYTES + 72 * MIB
    stage.expect_identical(newest)
    assert stage.run("verify", "--all", "--offline")["report"]["points"] == 1


def test_a_chain_that_was_replaced_goes_and_can_be_taken_back(stage: Stage) -> None:
    before = stage.run("backup", JOB)
    [old] = stage.points()
    stage.change()
    document = stage.run("backup", JOB, "--full")
    assert document["retained"]["deleted"] == 1
    assert before["retained"]["kept"] == 1
    [grave] = stage.run("retention", "removed")["removed"]
    assert old not in stage.points()
    [[_, told]] = stage.run("retention", "undelete", grave["chain"])["lines"]
    assert told.startswith("1 file ")
    assert old in stage.points()
    assert stage.run("verify", "--all", "--offline")["report"]["points"] == 2
