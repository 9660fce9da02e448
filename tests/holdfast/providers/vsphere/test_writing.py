"""A disk of a restore is written the best way that works, and what did not work is told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskWriteFailed
from holdfast.model.machine import Disk, Machine
from holdfast.model.plan import TransportMode
from holdfast.providers.nbd.served import ServedDisk
from holdfast.providers.raw_disks import TargetDisk
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import GRAIN, VSphereBench
from tests.lab.vcenter.client import vim

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

MIB = 1 << 20
DIRECT, NETWORK, HTTPS, HOT_ADD = (
    TransportMode.DIRECT,
    TransportMode.NETWORK,
    TransportMode.HTTPS,
    TransportMode.HOT_ADD,
)
NO_PLUGIN = ("no-such-plugin",)


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    return bench.make_machine("web 100% é", [MIB, MIB])


def opened(bench: VSphereBench, machine: Machine, number: int = 0, **settings: Any) -> Any:
    """Open a disk of a target that replaces those of the machine."""
    provider = VSphereProvider(msgspec.structs.replace(bench.settings, **settings), SystemClock())
    bench._opened.append(provider)
    disks = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks]
    target = provider.prepare_target("token", machine, disks, machine.machine_id)
    return provider.open_target(target.target_id, machine.disks[number].key)


def running_bytes(bench: VSphereBench, number: int = 0) -> bytes:
    """Return what the holder of the target's disks would see."""
    [holder] = [vm for vm in bench.client.all(vim.VirtualMachine) if vm.name.startswith("holdfast-restore-")]
    return bench.client.running_bytes(holder, number).read_bytes()


def store_away(bench: VSphereBench, tmp_path: Path) -> dict[str, Path]:
    """Return mounts as they are when nothing is mounted."""
    return {bench.store: tmp_path}


@pytest.mark.parametrize("mode, kind", [(DIRECT, TargetDisk), (NETWORK, ServedDisk)])
def test_what_is_written_lands_in_the_running_file(
    bench: VSphereBench, machine: Machine, mode: TransportMode, kind: type[TargetDisk | ServedDisk]
) -> None:
    with opened(bench, machine, transports=(mode,)) as disk:
        assert isinstance(disk, kind)
        assert disk.size_bytes == MIB
        disk.write(GRAIN, memoryview(b"x" * 512))
        disk.flush()
    wanted = bytearray(MIB)
    wanted[GRAIN : GRAIN + 512] = b"x" * 512
    assert running_bytes(bench) == wanted
    assert running_bytes(bench, 1) == bytes(MIB)
    assert bench.read_live(machine.machine_id, machine.disks[0].key) == bytes(MIB)


@pytest.mark.parametrize("mode", [DIRECT, NETWORK])
def test_each_disk_of_a_target_is_its_own(bench: VSphereBench, machine: Machine, mode: TransportMode) -> None:
    with opened(bench, machine, 1, transports=(mode,)) as disk:
        disk.write(0, memoryview(b"y" * 512))
        disk.flush()
    assert running_bytes(bench, 1)[:512] == b"y" * 512
    assert running_bytes(bench, 0) == bytes(MIB)


def test_the_order_of_the_settings_counts(bench: VSphereBench, machine: Machine) -> None:
    with opened(bench, machine, transports=(NETWORK, DIRECT)) as disk:
        assert isinstance(disk, ServedDisk)


def test_a_mount_that_is_gone_is_no_obstacle_while_the_network_works(
    bench: VSphereBench, machine: Machine, tmp_path: Path
) -> None:
    with opened(bench, machine, mounts=store_away(bench, tmp_path)) as disk:
        [failed] = disk.transport.failed
        assert disk.transport.mode is NETWORK
        assert isinstance(disk, ServedDisk)
        assert failed.startswith("direct: ")
        disk.write(0, memoryview(b"z" * 512))
        disk.flush()
    assert running_bytes(bench)[:512] == b"z" * 512


def test_a_datastore_that_the_proxy_does_not_see_is_written_over_the_network(
    bench: VSphereBench, machine: Machine
) -> None:
    with opened(bench, machine, mounts={}) as disk:
        assert disk.transport.failed == ()
        assert f"not direct: the proxy does not see datastore {bench.store}" in disk.transport.reason
        assert isinstance(disk, ServedDisk)


def test_a_network_without_its_plugin_is_no_obstacle_while_the_mount_is_there(
    bench: VSphereBench, machine: Machine
) -> None:
    with opened(bench, machine, transports=(NETWORK, DIRECT), nbdkit_plugin=NO_PLUGIN) as disk:
        assert isinstance(disk, TargetDisk)


@pytest.mark.parametrize(
    "modes, reason",
    [
        ((HTTPS,), "not https: the file server does not write at an offset"),
        ((HOT_ADD,), "not hot-add: the proxy is no machine of this vCenter"),
        ((HOT_ADD, HTTPS), "not hot-add: the proxy is no machine of this vCenter; not https: the file server"),
    ],
)
def test_what_is_no_way_to_write_is_told_with_the_reason(
    bench: VSphereBench, machine: Machine, modes: tuple[TransportMode, ...], reason: str
) -> None:
    with pytest.raises(DiskWriteFailed, match=f"cannot be written: {reason}") as caught:
        opened(bench, machine, transports=modes)
    assert caught.value.hint == "Restores need `direct`, `hot-add` or `network` in `transports` of the provider."


def test_when_no_way_works_every_reason_is_told(bench: VSphereBench, machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(DiskWriteFailed) as caught:
        opened(bench, machine, mounts=store_away(bench, tmp_path), nbdkit_plugin=NO_PLUGIN)
    message = caught.value.message
    assert f"disk {machine.disks[0].key} ([{bench.store}] " in message
    assert "direct: " in message
    assert str(tmp_path) in message
    assert "; network: " in message
    assert "no-such-plugin" in message
    assert running_bytes(bench) == bytes(MIB)
