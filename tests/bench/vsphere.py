"""A lab vCenter on the same host: listing thousands of machines, and reading over the network as others read.

The lab is no vCenter, so seconds say little; what counts is the ratio to what the same server gives a plain client in
the same minute.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.model.plan import TransportMode
from holdfast.providers.ports import SourceDisk
from holdfast.providers.vsphere.folder_disk import FolderDisk
from holdfast.providers.vsphere.lease import DiskPlace
from holdfast.providers.vsphere.lease_disk import LeaseDisk
from holdfast.providers.vsphere.network_disk import NetworkDisk
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import run
from tests.holdfast.providers.vsphere.bench import VSphereBench, settings_of
from tests.lab.vcenter.running import session_of
from workers.vcenter_lab import VCenterAddress, VCenterLab, VCenterSettings

VSPHERE = "vSphere, against the lab vCenter on the same host"
MACHINES = 5000
INVENTORY_S_MAX = 10.0
SPEED_RATIO_MIN = 0.7
PLAIN_CLIENTS = (
    (TransportMode.HTTPS, "curl"),
    (TransportMode.NETWORK, "nbdcopy"),
    (TransportMode.LEASE, "curl"),
)
_PLACE = "ParaVirtualSCSIController0:0"
_DISK_BYTES = 256 * MIB
_BLOCK = MIB
_THREADS = 4
_SEED = 7


def run_vsphere(ledger: Ledger) -> None:
    """Measure the listing once, and reading as often as asked, ours and theirs in turns."""
    folder = ledger.work / "vcenter"
    _measure_listing(ledger, folder / "large")
    _measure_reading(ledger, folder / "small")
    shutil.rmtree(folder, ignore_errors=True)


def _measure_listing(ledger: Ledger, folder: Path) -> None:
    name = f"listing {MACHINES} machines: wall"
    ledger.set_goal(VSPHERE, name, INVENTORY_S_MAX)
    with running(folder, VCenterSettings(clusters=0, machines=MACHINES)) as (_, address):
        for _ in range(ledger.runs):
            ledger.add(VSPHERE, name, seconds_to_list(address, MACHINES), "s")


def seconds_to_list(address: VCenterAddress, count: int) -> float:
    """Return how long it takes to describe every machine, after the login."""
    with VSphereProvider(settings_of(address), SystemClock()) as provider:
        provider.targets()  # logs in
        began = time.perf_counter()
        found = sum(1 for _ in provider.machines())
        assert found == count, f"{found} machines instead of {count}"
        return time.perf_counter() - began


def _measure_reading(ledger: Ledger, folder: Path) -> None:
    with running(folder, VCenterSettings(clusters=0, machines=0)) as (_, address), session_of(address) as client:
        bench = VSphereBench(client, settings_of(address), _SEED)
        try:
            for mode, program in PLAIN_CLIENTS:
                if shutil.which(program) is None:
                    print(f"  {program} is not installed, so {mode} is not compared", flush=True)
                    continue
                name = f"{mode}: rate / {program}'s"
                for mine_s, theirs_s in reading_rounds(bench, mode, program, ledger.runs):
                    ledger.add(VSPHERE, f"{mode}: rate", _DISK_BYTES / MIB / mine_s, "MiB/s")
                    # A limit is a most, so the goal is on the time.
                    ledger.add(VSPHERE, f"{mode}: time / {program}'s", mine_s / theirs_s, "x")
                ledger.set_goal(VSPHERE, name.replace("rate", "time"), 1 / SPEED_RATIO_MIN)
        finally:
            bench.close()


def reading_rounds(
    bench: VSphereBench, mode: TransportMode, program: str, rounds: int
) -> Iterator[tuple[float, float]]:
    """Yield seconds of ours and of a plain client for the same disk, in turns, so that both see the same weather."""
    machine = bench.make_machine(f"large {mode}", [_DISK_BYTES])
    chance = random.Random(_SEED)
    with bench.path(machine.machine_id, machine.disks[0].key).open("r+b") as file:
        for _ in range(_DISK_BYTES // MIB):
            file.write(chance.randbytes(MIB))
    snapshot = bench.provider.create_snapshot(machine.machine_id, "bench")
    settings = settings_of(bench.client.address, mode)
    with VSphereProvider(settings, SystemClock()) as provider:
        with provider.open_disk(machine.machine_id, snapshot.snapshot_id, machine.disks[0].key) as disk:
            command = _plain_client(bench, provider, disk, program)
            for _ in range(rounds):
                yield _seconds(lambda: _read_all(disk)), _seconds(lambda: run(command))
        provider.remove_snapshot(machine.machine_id, snapshot.snapshot_id)


def _plain_client(bench: VSphereBench, provider: VSphereProvider, disk: SourceDisk, program: str) -> list[str]:
    if isinstance(disk, NetworkDisk):
        return [program, disk._server.export.uri, "null:"]
    address = bench.client.address
    site = address.url.removesuffix("/sdk")
    if isinstance(disk, LeaseDisk):
        [shared] = provider._open.leases._shared.values()
        url = site + shared.address(DiskPlace(name=_PLACE, among=frozenset({_PLACE}))).path
    else:
        assert isinstance(disk, FolderDisk)
        url = site + disk._file.url
    return [
        program,
        "--silent",
        "--fail",
        "--cacert",
        address.certificate,
        "--cookie",
        provider._open.connection.cookie,
        "--output",
        os.devnull,
        url,
    ]


def _read_all(disk: SourceDisk) -> None:
    """Read a disk as the data pipe does: block after block, by a few threads."""

    def read_every_fourth(first: int) -> None:
        buffer = memoryview(bytearray(_BLOCK))
        for offset in range(first * _BLOCK, _DISK_BYTES, _THREADS * _BLOCK):
            disk.read_into(offset, buffer)

    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(read_every_fourth, range(_THREADS)))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def running(folder: Path, settings: VCenterSettings) -> Iterator[tuple[VCenterLab, VCenterAddress]]:
    """Yield a lab that serves from a new folder, and its address."""
    shutil.rmtree(folder, ignore_errors=True)
    lab = VCenterLab(folder, settings)
    try:
        yield lab, lab.start()
    finally:
        lab.kill()
