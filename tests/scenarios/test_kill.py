"""Processes die in the middle of a disk: a real server, real workers, SIGKILL, and the bytes compared afterwards."""

import random
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import SessionFailed
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.health_file import read_health
from tests.scenarios.places import opened_place
from workers.demo.crew import ROLES, Command, Crew, chain_files, wait_until_written
from workers.demo.disks import sha256_of
from workers.demo.place import JOB, DemoPlace
from workers.devserver import DevServer

# The first test also pays for the start of everything.
pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
DISK_BYTES = 144 * MIB
MID_DISK_BYTES = 56 * MIB
"""More than two commits of 24 MiB, and far from the end."""
RESENT_MAX = 64 * MIB
SEED = 20
MACHINE = "web01"
DISK = DiskKey("data")
# The strongest level is the slowest, so that there is a middle to die in.
BACKUP = ("backup", JOB, "--full", "--compression", "zstd-9")


class Running(msgspec.Struct, frozen=True):
    """A backup in the middle of its disk."""

    command: Command
    file: Path


class Stage:
    """A server, a worker process of each role, and a machine with one disk that does not compress."""

    def __init__(self, place: DemoPlace, server: DevServer, crew: Crew) -> None:
        self.server = server
        self.crew = crew
        self._place = place
        self._provider = LocalProvider(place.provider, SystemClock())

    def begin(self) -> Running:
        """Start a full backup and return in the middle of its disk."""
        known = self.files()
        command = Command(self._place, *BACKUP)
        assert wait_until_written(self._place.repository, known, MID_DISK_BYTES, command), command.result()
        [file] = self.files() - known
        return Running(command, file)

    def begin_restore(self, name: str) -> Running:
        """Start a restore to a new machine and return in the middle of its disk."""
        command = Command(self._place, "restore", "latest", "--machine", MACHINE, "--as", name)
        pause = threading.Event()
        while command.is_running():
            for file in self._place.provider.glob("targets/*/machine/*.raw"):
                if allocated(file) >= MID_DISK_BYTES:
                    return Running(command, file)
            pause.wait(0.002)
        raise AssertionError(command.result())

    def expect_equal(self, name: str) -> None:
        """Compare every byte of a machine's disk with that of the one that was protected."""
        assert sha256_of(self._provider.disk_paths(name)[DISK]) == sha256_of(self._provider.disk_paths(MACHINE)[DISK])

    def back_up(self) -> dict[str, Any]:
        """Back up without any harm."""
        return Command(self._place, *BACKUP).result()

    def slow_down(self, read_limit: int) -> None:
        """Limit what is read from the repository, by a worker that begins with the limit."""
        self.crew.kill("repository")
        text = self._place.config.read_text("utf-8")
        table = "[[repositories]]\n"
        self._place.config.write_text(text.replace(table, f"{table}read_limit = {read_limit}\n", 1))
        self.crew.start("repository")

    def known_reads(self) -> dict[Path, Any]:
        """Return what the health files of the chains say was read, and when."""
        folders = {file.parent for file in self.files()}
        found = {folder: read_health(HostFiles(), folder).files for folder in folders}
        return {folder: files for folder, files in found.items() if any(file.reads for file in files)}

    def begin_scrub(self) -> Command:
        """Start a scrub of everything and return when the first of several chains is read."""
        command = Command(self._place, "health", "scrub", "--days", "1")
        pause = threading.Event()
        while command.is_running():
            if self.known_reads():
                return command
            pause.wait(0.01)
        raise AssertionError(command.result())

    def files(self) -> set[Path]:
        """Return the chain files that are there."""
        return chain_files(self._place.repository)

    def tags(self) -> list[str]:
        """Return the tags of the machine's snapshots."""
        machine_id = self._provider.machine(MACHINE).machine_id
        return [snapshot.tag for snapshot in self._provider.snapshots(machine_id)]

    def expect_identical(self, point: dict[str, Any]) -> None:
        """Restore a point and compare every byte with the machine's disk."""
        name = f"restored-{point['point_id'][:12]}"
        Command(self._place, "restore", point["point_id"], "--as", name).result()
        restored = self._provider.disk_paths(name)[DISK]
        assert sha256_of(restored) == sha256_of(self._provider.disk_paths(MACHINE)[DISK])
        restored.unlink()

    def expect_success(self, running: Running) -> dict[str, Any]:
        """Wait for a backup: it succeeds in the file it began with, and leaves no snapshot. Return its figures."""
        known = self.files()
        document = running.command.result()
        assert document["session"]["outcome"] == "success", document
        assert self.files() == known
        assert self.tags() == []
        [point] = document["points"]
        self.expect_identical(point)
        figures: dict[str, Any] = document["session"]["figures"]
        return figures


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened_place(tmp_path_factory.mktemp("kill")) as (place, server):
        place.config.write_text(place.config.read_text("utf-8").replace('"web01", "db01"', f'"{MACHINE}"'))
        make_machine(place)
        with Crew(place, SystemClock()) as crew:
            for role in ROLES:
                crew.start(role)
            yield Stage(place, server, crew)


def allocated(file: Path) -> int:
    """Return how much of a file that began empty was written; 0 when it has gone."""
    try:
        return file.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def make_machine(place: DemoPlace) -> None:
    disk = place.disks / "data.raw"
    disk.write_bytes(random.Random(SEED).randbytes(DISK_BYTES))
    LocalProvider.create(place.provider, SystemClock()).add_machine(MACHINE, {DISK: disk})
    Repository.create(place.repository, HostFiles(), "ab" * 16, SystemClock().now())


def test_a_killed_proxy_goes_on_at_its_last_commit(stage: Stage) -> None:
    running = stage.begin()
    stage.crew.kill("proxy")
    assert running.file.stat().st_size < DISK_BYTES
    stage.crew.start("proxy")
    figures = stage.expect_success(running)
    assert figures["resent_bytes"] <= RESENT_MAX
    # Whatever was reported: a file that had been begun anew would have grown by all that was there.
    assert DISK_BYTES < running.file.stat().st_size < DISK_BYTES + RESENT_MAX


def test_a_restore_goes_on_with_what_a_killed_proxy_had_written(stage: Stage) -> None:
    """Nothing was flushed: a flush comes every 256 MiB. Still nothing that is there is written again."""
    stage.back_up()
    running = stage.begin_restore("copy")
    stage.crew.kill("proxy")
    there = allocated(running.file)
    assert MID_DISK_BYTES <= there < DISK_BYTES
    stage.crew.start("proxy")
    document = running.command.result()
    assert document["session"]["outcome"] == "success", document
    stage.expect_equal("copy")
    [task] = document["tasks"]
    counts = re.search(r"([\d.]+) MiB equal, ([\d.]+) MiB written; written and compared", task["detail"])
    assert counts is not None, task
    equal, written = (float(count) for count in counts.groups())
    assert equal + written == pytest.approx(DISK_BYTES / MIB, abs=1)
    assert written - (DISK_BYTES - there) / MIB <= 2, "at most the block that was being written"
    assert document["session"]["figures"]["resent_bytes"] <= MIB


def test_a_killed_server_finds_the_session_where_it_was(stage: Stage) -> None:
    running = stage.begin()
    assert stage.server.kill()
    assert running.file.stat().st_size < DISK_BYTES
    stage.server.start()
    stage.expect_success(running)


def test_a_killed_repository_worker_completes_the_point_when_it_is_back(stage: Stage) -> None:
    running = stage.begin()
    stage.crew.kill("repository")
    assert running.file.stat().st_size < DISK_BYTES
    stage.crew.start("repository")
    stage.expect_success(running)


def test_an_interrupted_backup_leaves_nothing_behind_and_the_next_one_succeeds(stage: Stage) -> None:
    known = stage.files()
    running = stage.begin()
    assert len(stage.tags()) == 1
    running.command._process.send_signal(signal.SIGINT)
    with pytest.raises(SessionFailed, match='"code": "cancelled"'):
        running.command.result()
    assert stage.tags() == []
    assert stage.files() == known
    document = stage.back_up()
    assert document["session"]["outcome"] == "success", document
    assert stage.tags() == []
    assert len(stage.files() - known) == 1


def test_a_scrub_goes_on_behind_what_a_killed_worker_had_written_down(stage: Stage) -> None:
    for _ in range(2):
        stage.back_up()
    stage.slow_down(read_limit=100 * MIB)
    command = stage.begin_scrub()
    stage.crew.kill("repository")
    before = stage.known_reads()
    stage.crew.start("repository")
    document = command.result()
    assert document["session"]["outcome"] == "success", document
    report = document["scrub"]
    assert report["done_bytes"] == report["planned_bytes"] > 2 * DISK_BYTES
    after = stage.known_reads()
    assert {file.parent for file in stage.files()} == set(after)
    assert before.items() <= after.items(), "what was written down is not read again"
    assert len(before) < len(after)
