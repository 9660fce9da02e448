"""Figures: disks are read almost as fast as the distribution's own copiers read them from the same servers."""

import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.model.machine import Machine, Snapshot
from holdfast.model.plan import TransportMode
from holdfast.providers.ports import SourceDisk
from holdfast.providers.vsphere.folder_disk import FolderDisk
from holdfast.providers.vsphere.network_disk import NetworkDisk
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.conftest import find_tool
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = [pytest.mark.vsphere, pytest.mark.slow]

MIB = 1 << 20
SIZE_BYTES = 256 * MIB
BLOCK = MIB
THREADS = 4
ROUNDS = 5
RATIO_MIN = 0.7


class FrozenMachine(msgspec.Struct, frozen=True, kw_only=True):
    bench: VSphereBench
    machine: Machine
    snapshot: Snapshot


@pytest.fixture
def frozen(bench: VSphereBench, seed: int) -> Iterator[FrozenMachine]:
    """A machine whose disk no compression makes smaller, and a snapshot of it."""
    machine = bench.make_machine("large", [SIZE_BYTES])
    source = random.Random(seed)
    with bench.path(machine.machine_id, machine.disks[0].key).open("r+b") as file:
        for _ in range(SIZE_BYTES // MIB):
            file.write(source.randbytes(MIB))
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    yield FrozenMachine(bench=bench, machine=machine, snapshot=taken)
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)


@pytest.mark.tools("curl")
def test_a_disk_is_read_over_https_almost_as_fast_as_by_curl(frozen: FrozenMachine) -> None:
    with only(frozen.bench, TransportMode.HTTPS) as provider, opened(provider, frozen) as disk:
        assert isinstance(disk, FolderDisk)
        address = frozen.bench.client.address
        command = [str(find_tool("curl")), "--silent", "--fail", "--cacert", address.certificate]
        command += ["--cookie", provider._open.connection.cookie, "--output", "/dev/null"]
        command.append(address.url.removesuffix("/sdk") + disk._file.url)
        compare(lambda: seconds_of_ours(disk), lambda: seconds_of(command))


@pytest.mark.tools("nbdkit", "nbdcopy")
def test_a_disk_is_read_over_the_network_almost_as_fast_as_by_nbdcopy(frozen: FrozenMachine) -> None:
    with only(frozen.bench, TransportMode.NETWORK) as provider, opened(provider, frozen) as disk:
        assert isinstance(disk, NetworkDisk)
        command = [str(find_tool("nbdcopy")), disk._server.export.uri, "null:"]
        compare(lambda: seconds_of_ours(disk), lambda: seconds_of(command))


def only(bench: VSphereBench, mode: TransportMode) -> VSphereProvider:
    return VSphereProvider(msgspec.structs.replace(bench.settings, transports=(mode,)), SystemClock())


def opened(provider: VSphereProvider, frozen: FrozenMachine) -> SourceDisk:
    [disk] = frozen.machine.disks
    return provider.open_disk(frozen.machine.machine_id, frozen.snapshot.snapshot_id, disk.key)


def compare(ours: Callable[[], float], theirs: Callable[[], float]) -> None:
    """Measure in turns, so that both see the same weather on a shared host."""
    rounds = [(ours(), theirs()) for _ in range(ROUNDS)]
    mine, other = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    speeds = [f"{SIZE_BYTES / MIB / seconds:.0f} MiB/s" for seconds in (mine, other)]
    print(f"ours {speeds[0]}, theirs {speeds[1]}, ratio {other / mine:.2f}")  # noqa: T201 # shown by -rP and on failure
    assert other / mine >= RATIO_MIN


def seconds_of(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, timeout=60)
    return time.perf_counter() - start


def seconds_of_ours(disk: SourceDisk) -> float:
    def read_every_fourth(first: int) -> None:
        buffer = memoryview(bytearray(BLOCK))
        for offset in range(first * BLOCK, SIZE_BYTES, THREADS * BLOCK):
            disk.read_into(offset, buffer)

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(read_every_fourth, range(THREADS)))
    return time.perf_counter() - start
