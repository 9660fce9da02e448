"""The lab's NBD plugin takes the parameters of the real one and serves disks to those who may have them."""

import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from holdfast.errors import DiskReadFailed, DiskWriteFailed, HoldfastError, ProviderUnavailable
from holdfast.model.spans import Span
from holdfast.providers.nbd.served import ServedDisk
from holdfast.providers.nbd.server import NbdServer, ServerPlan
from holdfast.providers.nbd.vddk import VddkDisk, vddk_parameters
from holdfast.testing.disks import PatternedDisk
from tests.lab.vcenter.client import MIB, Client, disks, read, write
from workers.vcenter_lab import SOURCES

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

PLUGIN = ("python", str(SOURCES / "plugin" / "lab.py"))
SIZE = 64 * MIB


@pytest.fixture
def vm(vc: Client) -> Iterator[Any]:
    """A machine that is on and has no snapshots, before and after the test."""
    vm = vc.machine("DC0_H0_VM0")
    yield vm
    vc.wait(vm.RemoveAllSnapshots_Task())
    if vm.runtime.powerState != "poweredOn":
        vc.wait(vm.PowerOnVM_Task())


def disk_of(vc: Client, vm: Any, snapshot: Any = None) -> VddkDisk:
    parts = urlsplit(vc.address.url)
    return VddkDisk(
        libdir="/opt/vmware-vix-disklib-distrib",
        server=parts.hostname or "",
        port=parts.port or 443,
        user=vc.address.user,
        thumbprint=vc.address.thumbprint,
        vm=vm._moId,
        snapshot=snapshot and snapshot._moId,
        file=disks((snapshot or vm).config)[0].backing.fileName,
        compression="fastlz",
    )


def plan_of(vc: Client, disk: VddkDisk, *, is_read_only: bool = True, password: str | None = None) -> ServerPlan:
    return ServerPlan(
        plugin=PLUGIN,
        parameters=vddk_parameters(disk),
        secrets={"password": password or vc.address.password},
        is_read_only=is_read_only,
    )


def content(disk: ServedDisk, span: Span) -> bytes:
    buffer = bytearray(span.length)
    disk.read_into(span.start, memoryview(buffer))
    return bytes(buffer)


def refused(plan: ServerPlan, kind: type[HoldfastError] = DiskReadFailed) -> str:
    with pytest.raises(kind) as caught, ServedDisk(plan):
        pass
    return caught.value.message


def test_a_snapshot_is_read_as_it_was_while_the_machine_goes_on(vc: Client, vm: Any, seed: int) -> None:
    expected = PatternedDisk(seed % 2**32, SIZE)
    for start in (0, 5 * MIB, SIZE - MIB):
        write(vc.running_bytes(vm), start, expected.write(Span(start, MIB)))
    snapshot = vc.snapshot(vm)
    write(vc.running_bytes(vm), 0, b"after the snapshot" * 1000)
    with ServedDisk(plan_of(vc, disk_of(vc, vm, snapshot))) as disk:
        assert (disk.size_bytes, disk.connections) == (SIZE, 4)
        served = content(disk, Span(0, SIZE))
        assert list(disk.allocated_spans()) == [Span(0, MIB), Span(5 * MIB, MIB), Span(SIZE - MIB, MIB)]
    assert served == vc.frozen_bytes(vm, snapshot).read_bytes()
    assert expected.difference(0, served) is None


def test_a_snapshot_on_a_snapshot_is_read_whole(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), MIB, b"first" * 1000)
    first = vc.snapshot(vm, "first")
    write(vc.running_bytes(vm), MIB, b"again" * 1000)
    second = vc.snapshot(vm, "second")
    write(vc.running_bytes(vm), MIB, b"later" * 1000)
    for snapshot, found in ((first, b"first"), (second, b"again")):
        with ServedDisk(plan_of(vc, disk_of(vc, vm, snapshot))) as disk:
            assert content(disk, Span(MIB, 5)) == found


def test_the_disk_of_a_machine_that_is_off_is_written(vc: Client, vm: Any, seed: int) -> None:
    vc.wait(vm.PowerOffVM_Task())
    expected = PatternedDisk(seed % 2**32, SIZE)
    with ServedDisk(plan_of(vc, disk_of(vc, vm), is_read_only=False)) as disk:
        disk.write_zeros(Span(0, SIZE))
        threads = [
            threading.Thread(target=disk.write, args=(start, memoryview(expected.write(Span(start, MIB)))))
            for start in range(0, 8 * MIB, MIB)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected.zero(Span(2 * MIB, 4096))
        disk.write_zeros(Span(2 * MIB, 4096))
        disk.flush()
        assert expected.difference(0, content(disk, Span(0, 8 * MIB))) is None
    file = vc.running_bytes(vm)
    assert expected.difference(0, file.read_bytes()) is None
    assert file.stat().st_blocks * 512 < 9 * MIB


def test_the_disk_of_a_machine_that_is_off_is_read_without_a_snapshot(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), 0, b"offline")
    vc.wait(vm.PowerOffVM_Task())
    with ServedDisk(plan_of(vc, disk_of(vc, vm))) as disk:
        assert content(disk, Span(0, 7)) == b"offline"


def test_a_snapshot_is_never_written(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    plan = plan_of(vc, disk_of(vc, vm, snapshot), is_read_only=False)
    assert "lets nobody write" in refused(plan, DiskWriteFailed)


def test_a_running_machine_keeps_its_disk_to_itself(vc: Client, vm: Any) -> None:
    for is_read_only, kind in ((True, DiskReadFailed), (False, DiskWriteFailed)):
        assert "FileLocked" in refused(plan_of(vc, disk_of(vc, vm), is_read_only=is_read_only), kind)


def test_a_frozen_file_is_not_written_even_when_the_machine_is_off(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    vc.wait(vm.PowerOffVM_Task())
    frozen = msgspec.structs.replace(disk_of(vc, vm, snapshot), snapshot=None)
    assert "FileLocked" in refused(plan_of(vc, frozen, is_read_only=False), DiskWriteFailed)


def test_a_file_somebody_holds_is_locked(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    plan = plan_of(vc, disk_of(vc, vm, snapshot))
    lock = {"file": disk_of(vc, vm, snapshot).file}
    vc.control("POST", "/locks", lock)
    try:
        assert "FileLocked" in refused(plan)
    finally:
        vc.control("DELETE", "/locks", lock)
    ServedDisk(plan).close()


def test_a_wrong_password_is_refused(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    message = refused(plan_of(vc, disk_of(vc, vm, snapshot), password="guessed"))
    assert "InvalidLogin" in message
    assert "guessed" not in message


def test_a_server_with_another_certificate_does_not_learn_the_password(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    disk = msgspec.structs.replace(disk_of(vc, vm, snapshot), thumbprint="00" * 20)
    vc.control("DELETE", "/calls")
    assert "the certificate has the thumbprint" in refused(plan_of(vc, disk))
    assert "disk:OPEN" not in vc.control("GET", "/calls")


def test_only_disks_of_the_machine_and_the_snapshot_are_served(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    other = vc.machine("DC0_H0_VM1")
    disk = disk_of(vc, vm, snapshot)
    foreign = disks(other.config)[0].backing.fileName
    assert "FileNotFound" in refused(plan_of(vc, msgspec.structs.replace(disk, file=foreign)))
    running = disks(vm.config)[0].backing.fileName
    assert "FileNotFound" in refused(plan_of(vc, msgspec.structs.replace(disk, file=running)))
    assert "ManagedObjectNotFound" in refused(plan_of(vc, msgspec.structs.replace(disk, vm=other._moId)))
    assert "ManagedObjectNotFound" in refused(plan_of(vc, msgspec.structs.replace(disk, snapshot="snapshot-0")))


def test_opening_can_be_made_to_fail(vc: Client, vm: Any) -> None:
    snapshot = vc.snapshot(vm)
    plan = plan_of(vc, disk_of(vc, vm, snapshot))
    vc.control("POST", "/faults", {"method": "disk:OPEN", "times": 1, "action": "fail", "fault": "HostNotReachable"})
    assert "HostNotReachable" in refused(plan)
    vc.control("POST", "/faults", {"method": "disk:OPEN", "times": 1, "action": "drop"})
    assert "refuses" in refused(plan)
    vc.control("POST", "/faults", {"method": "disk:*", "times": 1, "action": "delay", "delay_ms": 20})
    ServedDisk(plan).close()


def test_parameters_are_checked_before_anything_is_served(vc: Client, vm: Any) -> None:
    plan = plan_of(vc, disk_of(vc, vm))
    unknown = msgspec.structs.replace(plan, parameters={**plan.parameters, "colour": "red"})
    with pytest.raises(ProviderUnavailable, match="unknown parameter colour"), NbdServer(unknown):
        pass
    without = {name: value for name, value in plan.parameters.items() if name != "thumbprint"}
    with (
        pytest.raises(ProviderUnavailable, match="parameters are missing: thumbprint"),
        NbdServer(msgspec.structs.replace(plan, parameters=without)),
    ):
        pass


def test_an_open_disk_goes_on_through_further_snapshots(vc: Client, vm: Any) -> None:
    write(vc.running_bytes(vm), 0, b"one")
    snapshot = vc.snapshot(vm)
    with ServedDisk(plan_of(vc, disk_of(vc, vm, snapshot))) as disk:
        path = vc.frozen_bytes(vm, snapshot)
        write(vc.running_bytes(vm), 0, b"two")
        vc.snapshot(vm, "next")
        assert content(disk, Span(0, 3)) == b"one" == read(path, 0, 3)
