"""A repository on a share that two gateways serve, and a job that may use any proxy: real processes, some of them dead.

Each gateway has the share mounted at another place, an address of its own, and a home of its own.
"""

import json
import random
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.places import opened_place
from workers.demo.crew import Command, Crew
from workers.demo.disks import sha256_of
from workers.demo.place import JOB, PROXY, DemoPlace, prepare_place
from workers.loopback import LOOPBACK, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
MACHINE = "web01"
SIZES = {DiskKey("boot"): 4 * MIB, DiskKey("data"): 24 * MIB, DiskKey("logs"): 8 * MIB}
SEED = 21
OTHER_PROXY = "proxy-b"
READ_LIMIT = 3 * MIB
"""So that there is a middle to die in."""
MID_BYTES = 6 * MIB
AGAIN_MAX = 4 * MIB
"""Each disk may lose the block that was being written."""


class Running(msgspec.Struct, frozen=True):
    """A restore in the middle of its largest disk."""

    command: Command
    name: str
    written: int
    """Bytes of all disks that are there."""


class Stage(msgspec.Struct, frozen=True):
    """A server, control and one proxy at home, two gateways, and another host for a proxy."""

    place: DemoPlace
    home: Crew
    other: Crew
    first: Crew
    second: Crew

    @property
    def provider(self) -> LocalProvider:
        """Return the hypervisor."""
        return LocalProvider(self.place.provider, SystemClock())

    def begin_restore(self, *words: str) -> Running:
        """Start a restore to a new machine through the first gateway and return in the middle of its disks."""
        name = "copy"
        command = Command(self.place, "restore", "latest", "--machine", MACHINE, "--as", name, *words)
        pause = threading.Event()
        while command.is_running():
            if self.written() >= MID_BYTES:
                return Running(command, name, self.written())
            pause.wait(0.01)
        raise AssertionError(command.result())

    def written(self) -> int:
        """Return how much of the disks of targets was written."""
        files = self.place.provider.glob("targets/*/machine/*.raw")
        return sum(file.stat().st_blocks * 512 for file in files)

    def expect_restored(self, running: Running) -> dict[str, Any]:
        """Wait for a restore: every byte is right, and what was there was neither written nor fetched again."""
        there = self.written()
        document = running.command.result()
        assert document["session"]["outcome"] == "warning", document
        originals = self.provider.disk_paths(MACHINE)
        for key, path in self.provider.disk_paths(running.name).items():
            assert sha256_of(path) == sha256_of(originals[key]), key
        details = " ".join(task["detail"] for task in document["tasks"])
        equal = sum(float(size) for size in re.findall(r"([\d.]+) MiB equal", details)) * MIB
        assert there - AGAIN_MAX <= equal <= there + MIB, details
        figures = document["session"]["figures"]
        assert figures["transferred_bytes"] <= sum(SIZES.values()) - there + AGAIN_MAX, figures
        return document

    def back_up(self, *words: str) -> dict[str, Any]:
        """Back up; return the document of the session."""
        document = Command(self.place, "backup", JOB, *words).result()
        assert document["session"]["outcome"] == "success", document
        return document

    def expect_identical(self, document: dict[str, Any]) -> None:
        """Restore the point to a new machine and compare every byte of every disk."""
        [point] = document["points"]
        name = f"restored-{point['point_id'][:12]}"
        Command(self.place, "restore", point["point_id"], "--as", name, "--proxy", PROXY).result()
        originals = self.provider.disk_paths(MACHINE)
        for key, path in self.provider.disk_paths(name).items():
            assert sha256_of(path) == sha256_of(originals[key]), key


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with opened_place(tmp_path / "home") as (place, _), ExitStack() as stack:
        crew = crews(place, tmp_path)
        for one in crew:
            stack.enter_context(one)
        crew[0].start("control")
        crew[0].start("proxy")
        yield Stage(place, *crew)


def crews(place: DemoPlace, root: Path) -> list[Crew]:
    """Make the machine and the share, and the configurations of all hosts.

    Return the crews of home, of another host for a proxy, and of two gateways.
    """
    told = (
        place.config.read_text("utf-8").replace('"web01", "db01"', f'"{MACHINE}"').replace(f'proxy = "{PROXY}"\n', "")
    )
    # A second proxy that the configuration has and nobody runs, unless a test does.
    told = told.replace("[[jobs]]", f'[[proxies]]\nname = "{OTHER_PROXY}"\n\n[[jobs]]')
    path, home = (
        f"{key} = {json.dumps(str(value))}" for key, value in (("path", place.repository), ("home", place.home))
    )
    disks = {}
    chance = random.Random(SEED)
    for key, size in SIZES.items():
        disks[key] = place.disks / f"{key}.raw"
        disks[key].write_bytes(chance.randbytes(size))
    LocalProvider.create(place.provider, SystemClock()).add_machine(MACHINE, disks)
    share = root / "share"
    Repository.create(share, HostFiles(), "ab" * 16, SystemClock().now())
    gateways = []
    ports = free_ports(2)
    for number, port in enumerate(ports):
        gateway = prepare_place(root / f"gateway-{number}")
        shutil.copytree(place.home / "credentials", gateway.home / "credentials", dirs_exist_ok=True)
        mounted = root / f"mounted-{number}"
        mounted.symlink_to(share)
        served = f'path = {json.dumps(str(mounted))}\nmover = "{LOOPBACK}:{port}"\nmover_patience = 10'
        gateway.config.write_text(told.replace(home, f"home = {json.dumps(str(gateway.home))}").replace(path, served))
        gateways.append(Crew(gateway, SystemClock()))
    # Home knows that there is a mover, and has no share.
    place.config.write_text(told.replace(path, f'{path}\nmover = "{LOOPBACK}:{ports[0]}"'))
    other = prepare_place(root / "other")
    other.config.write_text(place.config.read_text("utf-8").replace(home, f"home = {json.dumps(str(other.home))}"))
    return [Crew(place, SystemClock()), Crew(other, SystemClock()), *gateways]


def limited(stage: Stage) -> None:
    """Let the first gateway send so slowly that there is a middle; the second knows no limit."""
    config = stage.place.root.parent / "gateway-0" / "holdfast.toml"
    table = "[[repositories]]\n"
    config.write_text(config.read_text("utf-8").replace(table, f"{table}read_limit = {READ_LIMIT}\n", 1))


def test_whichever_gateway_and_proxy_is_alive_does_the_work(stage: Stage) -> None:
    stage.first.start("repository")
    first = stage.back_up()
    assert [task["disk"] for task in first["tasks"]] == list(SIZES)
    stage.expect_identical(first)
    stage.second.start("repository")
    stage.first.kill("repository")
    disk = LocalProvider(stage.place.provider, SystemClock()).disk_paths(MACHINE)[DiskKey("data")]
    with disk.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(random.Random(SEED).randbytes(2 * MIB))
    # The chain that the first began is continued by the second.
    second = stage.back_up("--proxy", PROXY)
    assert second["points"][0]["kind"] == "increment"
    assert not stage.place.repository.exists()
    stage.expect_identical(second)
    assert Command(stage.place, "verify", "--all").result()["session"]["outcome"] == "success"


def test_a_restore_that_loses_its_gateway_goes_on_at_the_other_one(stage: Stage) -> None:
    limited(stage)
    stage.first.start("repository")
    stage.back_up()
    running = stage.begin_restore("--proxy", PROXY)
    stage.first.kill("repository")
    stage.second.start("repository")
    document = stage.expect_restored(running)
    notes = document["session"]["notes"]
    assert notes == ["the repository's data mover was lost; the disks go on at another one"]


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_a_restore_that_loses_its_proxy_and_its_gateway_goes_on_at_others(stage: Stage) -> None:
    """Three of its minutes are the time in which a lost proxy may come back."""
    limited(stage)
    stage.first.start("repository")
    stage.back_up()
    running = stage.begin_restore()
    stage.home.kill("proxy")
    stage.first.kill("repository")
    stage.other.start("proxy", "--name", OTHER_PROXY)
    stage.second.start("repository")
    document = stage.expect_restored(running)
    assert any("proxy proxy-a was lost" in note for note in document["session"]["notes"]), document
