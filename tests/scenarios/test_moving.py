"""A worker dies in the middle of a move: a real server, real workers, SIGKILL, and every byte compared afterwards."""

import random
import threading
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.places import opened_place
from workers.config import load_settings
from workers.demo.crew import ROLES, Command, Crew
from workers.demo.disks import sha256_of
from workers.demo.place import JOB, REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
DISK_BYTES = 200 * MIB
MACHINE, DISK = "web01", DiskKey("data")
SECOND = '\n[[repositories]]\nname = "second"\npath = "{path}"\n'


def has_begun(folder: Path) -> bool:
    """Return whether a move into a repository has a commit behind it."""
    return any(folder.glob("machines/*/move-*/move.json"))


def test_a_worker_that_dies_in_the_middle_of_a_move_goes_on_at_its_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ROLES, "second", ("repository", "--name", "second"))
    with opened_place(tmp_path) as (place, _):
        text = place.config.read_text("utf-8").replace('"web01", "db01"', f'"{MACHINE}"')
        second = place.repository.with_name("second")
        place.config.write_text(text + SECOND.format(path=second))
        Repository.create(place.repository, HostFiles(), "ab" * 16, SystemClock().now())
        Repository.create(second, HostFiles(), "cd" * 16, SystemClock().now())
        disk = place.disks / "data.raw"
        disk.write_bytes(random.Random(0).randbytes(DISK_BYTES))
        provider = LocalProvider.create(place.provider, SystemClock())
        provider.add_machine(MACHINE, {DISK: disk})
        with Crew(place, SystemClock()) as crew:
            for role in ROLES:
                crew.start(role)
            [point] = Command(place, "backup", JOB).result()["points"]
            move = Command(place, "chain", "move", MACHINE, "--to", "second", "-r", REPOSITORY)
            pause = threading.Event()
            while not has_begun(second):
                assert move.is_running(), move.result()
                pause.wait(0.001)
            crew.kill("second")
            assert not list(second.glob("machines/*/0*"))
            crew.start("second")
            assert move.result()["session"]["outcome"] == "success"
            credential = load_settings(place.config, {}).job(JOB).credential or ""
            words = ("restore", point["point_id"], "--as", "copy", "-r", "second", "--credential", credential)
            assert Command(place, *words).result()["session"]["outcome"] == "success"
            assert sha256_of(provider.disk_paths("copy")[DISK]) == sha256_of(provider.disk_paths(MACHINE)[DISK])
            report = Command(
                place, "verify", "--all", "--offline", "-r", "second", "--credential", credential
            ).result()["report"]
            assert report["points"] == 1
            [grave] = {
                one["chain"] for one in Command(place, "retention", "removed", "-r", REPOSITORY).result()["removed"]
            }
            assert Command(place, "retention", "undelete", grave, "-r", REPOSITORY).result()["lines"]
