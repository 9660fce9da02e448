"""A proxy that reaches a repository through its data mover alone: real processes, SIGKILL, and the bytes compared.

The proxy's configuration names another home, without the passphrase, and a folder that does not exist as the
repository's.
"""

import random
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import SessionFailed
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from tests.scenarios.apart import DISK, MACHINE, elsewhere_of, give_mover, make_machine
from tests.scenarios.places import opened_place
from workers.demo.crew import Command, Crew, chain_files, wait_until_written
from workers.demo.disks import sha256_of
from workers.demo.place import JOB, DemoPlace
from workers.loopback import LOOPBACK, free_ports

# The first test also pays for the start of everything.
pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
DISK_BYTES = 200 * MIB
MID_DISK_BYTES = 56 * MIB
"""More than two commits of 24 MiB, and far from the end."""
RESENT_MAX = 64 * MIB
SEED = 20
# The strongest level is the slowest, so that there is a middle to die in.
SLOWLY = ("--compression", "zstd-9")


class Running(msgspec.Struct, frozen=True):
    """A backup in the middle of its disk."""

    command: Command
    file: Path


class Stage:
    """A server, the workers at home, a proxy elsewhere, and a machine with one disk that does not compress."""

    def __init__(self, place: DemoPlace, home: Crew, elsewhere: Crew) -> None:
        self.home = home
        self.elsewhere = elsewhere
        self._place = place
        self._provider = LocalProvider(place.provider, SystemClock())
        self._chance = random.Random(SEED + 1)

    @property
    def disk(self) -> Path:
        """Return the machine's disk."""
        return self._provider.disk_paths(MACHINE)[DISK]

    def overwrite(self, offset: int, length: int) -> None:
        """Let the machine write random bytes."""
        with self.disk.open("r+b") as disk:
            disk.seek(offset)
            disk.write(self._chance.randbytes(length))

    def run(self, *words: str) -> dict[str, Any]:
        """Run a command to its good end."""
        return Command(self._place, *words).result()

    def back_up(self, *words: str) -> dict[str, Any]:
        """Back up without any harm; return the only point."""
        document = self.run("backup", JOB, *words)
        assert document["session"]["outcome"] == "success", document
        [point] = document["points"]
        assert isinstance(point, dict)
        return point

    def begin(self) -> Running:
        """Start a full backup and return in the middle of its disk."""
        known = self.files()
        command = Command(self._place, "backup", JOB, "--full", *SLOWLY)
        assert wait_until_written(self._place.repository, known, MID_DISK_BYTES, command), command.result()
        [file] = self.files() - known
        return Running(command, file)

    def files(self) -> set[Path]:
        """Return the chain files that are there."""
        return chain_files(self._place.repository)

    def tags(self) -> list[str]:
        """Return the tags of the machine's snapshots."""
        machine_id = self._provider.machine(MACHINE).machine_id
        return [snapshot.tag for snapshot in self._provider.snapshots(machine_id)]

    def expect_identical(self, point: dict[str, Any]) -> None:
        """Restore a point to a new machine and compare every byte with the machine's disk."""
        name = f"restored-{point['point_id'][:12]}"
        self.run("restore", point["point_id"], "--as", name)
        restored = self._provider.disk_paths(name)[DISK]
        assert sha256_of(restored) == sha256_of(self.disk)
        restored.unlink()

    def expect_success(self, running: Running) -> None:
        """Wait for a backup: it goes on in its file, little is sent twice, nothing is left, the bytes are right."""
        known = self.files()
        document = running.command.result()
        assert document["session"]["outcome"] == "success", document
        assert self.files() == known
        assert self.tags() == []
        assert document["session"]["figures"]["resent_bytes"] <= RESENT_MAX
        # Whatever was reported: a file that had been begun anew would have grown by all that was there.
        assert DISK_BYTES < running.file.stat().st_size < DISK_BYTES + RESENT_MAX
        [point] = document["points"]
        self.expect_identical(point)

    def expect_good_repository(self) -> None:
        """Read every stored byte."""
        document = self.run("verify", "--all")
        assert document["session"]["outcome"] == "success", document


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened_place(tmp_path_factory.mktemp("movers")) as (place, _):
        [port] = free_ports(1)
        give_mover(place, f"{LOOPBACK}:{port}")
        far = elsewhere_of(place)
        make_machine(place, random.Random(SEED).randbytes(DISK_BYTES))
        with Crew(place, SystemClock()) as home, Crew(far, SystemClock()) as elsewhere:
            home.start("control")
            home.start("repository")
            elsewhere.start("proxy")
            yield Stage(place, home, elsewhere)


def test_full_increment_restore_and_quick_rollback_without_the_folder_or_the_passphrase(stage: Stage) -> None:
    first = stage.back_up()
    assert first["kind"] == "full"
    stage.expect_identical(first)
    before = sha256_of(stage.disk)
    stage.overwrite(70 * MIB + 512, 3 * MIB)
    second = stage.back_up()
    assert second["kind"] == "increment"
    assert second["file_bytes"] < 8 * MIB
    stage.expect_identical(second)
    stage.run("restore", first["point_id"], "--original", "--quick")
    assert sha256_of(stage.disk) == before
    stage.expect_good_repository()


def test_a_killed_repository_worker_is_found_again_on_its_port(stage: Stage) -> None:
    running = stage.begin()
    stage.home.kill("repository")
    assert running.file.stat().st_size < DISK_BYTES
    stage.home.start("repository")
    stage.expect_success(running)


def test_a_killed_proxy_goes_on_at_its_last_commit(stage: Stage) -> None:
    running = stage.begin()
    stage.elsewhere.kill("proxy")
    assert running.file.stat().st_size < DISK_BYTES
    stage.elsewhere.start("proxy")
    stage.expect_success(running)


def test_a_cancelled_transfer_leaves_nothing_and_lets_go_of_its_chain(stage: Stage) -> None:
    known = stage.files()
    running = stage.begin()
    cancel(running)
    assert stage.tags() == []
    assert stage.files() == known
    expect_unlocked(running)


def test_what_a_dead_proxy_held_is_given_up_when_its_session_is_cancelled(stage: Stage) -> None:
    known = stage.files()
    running = stage.begin()
    stage.elsewhere.kill("proxy")
    try:
        running.command._process.send_signal(signal.SIGINT)
    finally:
        stage.elsewhere.start("proxy")
    with pytest.raises(SessionFailed, match='"code": "cancelled"'):
        running.command.result()
    assert stage.tags() == []
    assert stage.files() == known
    expect_unlocked(running)
    stage.expect_identical(stage.back_up("--full"))
    stage.expect_good_repository()


def cancel(running: Running) -> None:
    """Interrupt a command, which then ends as cancelled."""
    running.command._process.send_signal(signal.SIGINT)
    with pytest.raises(SessionFailed, match='"code": "cancelled"'):
        running.command.result()


def expect_unlocked(running: Running) -> None:
    """Nobody holds the chain's lock."""
    with closing(acquire_chain_lock(HostFiles(), running.file.parent)):
        pass
