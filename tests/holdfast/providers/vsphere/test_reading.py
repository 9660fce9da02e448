"""A frozen disk is opened the best way that works, and what did not work is told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed
from holdfast.model.machine import Machine
from holdfast.model.plan import TransportMode
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import GRAIN, VSphereBench

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

MIB = 1 << 20
ALL = (TransportMode.DIRECT, TransportMode.NETWORK, TransportMode.HTTPS, TransportMode.LEASE)


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    machine = bench.make_machine("web 100% é", [MIB])
    bench.write_live(machine.machine_id, machine.disks[0].key, GRAIN, b"x" * 512)
    return machine


def opened(bench: VSphereBench, machine: Machine, **settings: Any) -> Any:
    provider = VSphereProvider(msgspec.structs.replace(bench.settings, **settings), SystemClock())
    bench._opened.append(provider)
    taken = provider.create_snapshot(machine.machine_id, "tag")
    return provider.open_disk(machine.machine_id, taken.snapshot_id, machine.disks[0].key)


def read(disk: Any) -> bytes:
    buffer = bytearray(512)
    disk.read_into(GRAIN, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("mode", ALL)
def test_every_way_gives_the_same_bytes_and_spans(bench: VSphereBench, machine: Machine, mode: TransportMode) -> None:
    with opened(bench, machine, transports=(mode,)) as disk:
        assert (disk.transport.mode, disk.transport.failed) == (mode, ())
        assert read(disk) == b"x" * 512
        assert any(span.start <= GRAIN and span.end >= GRAIN + 512 for span in disk.allocated_spans())


def test_the_best_way_is_known_before_anything_is_opened(bench: VSphereBench, machine: Machine, tmp_path: Path) -> None:
    def way(**settings: Any) -> tuple[TransportMode | None, str]:
        provider = VSphereProvider(msgspec.structs.replace(bench.settings, **settings), SystemClock())
        bench._opened.append(provider)
        [found] = provider.ways(machine.machine_id)
        assert found.disk == machine.disks[0].key
        return found.mode, found.reason

    assert way(mounts={bench.store: tmp_path}, transports=ALL)[0] is TransportMode.DIRECT
    assert way(mounts={}, transports=ALL)[0] is TransportMode.NETWORK
    mode, reason = way(mounts={}, transports=(TransportMode.DIRECT,))
    assert mode is None
    assert reason == f"not direct: the proxy does not see datastore {bench.store}"


def test_what_failed_before_is_told(bench: VSphereBench, machine: Machine, tmp_path: Path) -> None:
    stale = {bench.store: tmp_path}
    with opened(bench, machine, mounts=stale, nbdkit_plugin=("no-such-plugin",)) as disk:
        assert disk.transport.mode is TransportMode.HTTPS
        direct, network = disk.transport.failed
        assert direct.startswith("direct: ")
        assert network.startswith("network: ")
        assert read(disk) == b"x" * 512


def test_when_no_way_works_every_reason_is_told(bench: VSphereBench, machine: Machine, tmp_path: Path) -> None:
    for method in ("folder:GET", "ExportSnapshot"):
        bench.client.control("POST", "/faults", {"method": method, "action": "fail", "fault": "SystemError"})
    with pytest.raises(DiskReadFailed) as caught:
        opened(bench, machine, mounts={bench.store: tmp_path}, nbdkit_plugin=("no-such-plugin",))
    for mode in ALL:
        assert f"{mode}: " in caught.value.message


def test_a_disk_above_a_snapshot_of_others_is_read_over_the_network_or_a_lease(
    bench: VSphereBench, machine: Machine
) -> None:
    bench.client.snapshot(bench.vm(machine.machine_id), "by hand")
    with opened(bench, machine) as disk:
        assert disk.transport.mode is TransportMode.NETWORK
        assert "had snapshots before ours" in disk.transport.reason
        assert read(disk) == b"x" * 512
    with opened(bench, machine, nbdkit_plugin=("no-such-plugin",)) as disk:
        assert disk.transport.mode is TransportMode.LEASE
        assert disk.transport.reason.endswith("not https: the machine had snapshots before ours")
        assert disk.transport.failed[0].startswith("network: ")
        assert read(disk) == b"x" * 512
    with pytest.raises(DiskReadFailed, match="not https: the machine had snapshots before ours"):
        opened(bench, machine, transports=(TransportMode.DIRECT, TransportMode.HTTPS))
