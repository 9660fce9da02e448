"""A repository on a share that two gateways serve, and a job that may use any proxy: real processes, one of them dead.

Each gateway has the share mounted at another place, an address of its own, and a home of its own.
"""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.atomic import HostFiles
from holdfast.storage.repository import Repository
from workers.demo.crew import Command, Crew
from workers.demo.disks import sha256_of
from workers.demo.hypervisors import LocalHypervisor
from workers.demo.place import JOB, PROXY, DemoPlace, prepare_place, write_configuration
from workers.devserver import DevServer, DevServerSettings
from workers.loopback import LOOPBACK, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(240)]

MIB = 1 << 20
MACHINE = "web01"
SIZES = {DiskKey("boot"): 4 * MIB, DiskKey("data"): 24 * MIB, DiskKey("logs"): 8 * MIB}
SEED = 21


class Stage(msgspec.Struct, frozen=True):
    """A server, control and one proxy at home, and two gateways."""

    place: DemoPlace
    first: Crew
    second: Crew

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
        provider = LocalProvider(self.place.provider, SystemClock())
        originals = provider.disk_paths(MACHINE)
        for key, path in provider.disk_paths(name).items():
            assert sha256_of(path) == sha256_of(originals[key]), key


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    place = prepare_place(tmp_path / "home")
    server = DevServer(place.home / "temporal", DevServerSettings(is_headless=True))
    try:
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            for name in ("HOLDFAST_CONFIG", "HOLDFAST_HOME", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
                patch.delenv(name, raising=False)
            address = server.start()
            write_configuration(place, address.grpc, address.namespace, LocalHypervisor(place, SystemClock()).table)
            home, gateways = crews(place, tmp_path)
            for crew in (home, *gateways):
                stack.enter_context(crew)
            home.start("control")
            home.start("proxy")
            yield Stage(place, *gateways)
    finally:
        server.kill()


def crews(place: DemoPlace, root: Path) -> tuple[Crew, list[Crew]]:
    """Make the machine and the share, and the configurations of all hosts; return the crews of home and gateways."""
    told = (
        place.config.read_text("utf-8").replace('"web01", "db01"', f'"{MACHINE}"').replace(f'proxy = "{PROXY}"\n', "")
    )
    # A second proxy that the configuration has and nobody runs.
    told = told.replace("[[jobs]]", '[[proxies]]\nname = "proxy-b"\n\n[[jobs]]')
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
        served = f'path = {json.dumps(str(mounted))}\nmover = "{LOOPBACK}:{port}"'
        gateway.config.write_text(told.replace(home, f"home = {json.dumps(str(gateway.home))}").replace(path, served))
        gateways.append(Crew(gateway, SystemClock()))
    # Home knows that there is a mover, and has no share.
    place.config.write_text(told.replace(path, f'{path}\nmover = "{LOOPBACK}:{ports[0]}"'))
    return Crew(place, SystemClock()), gateways


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
