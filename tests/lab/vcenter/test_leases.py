"""Leases: export of disks as stream-optimized VMDK, and import of them."""

import http.client
import struct
import threading
import urllib.error
import urllib.request
import zlib
from typing import Any

import pytest

from tests.lab.vcenter.client import MIB, Client, disks, read, vim, write

pytestmark = pytest.mark.vsphere

SECTOR = 512


def decode(stream: bytes) -> tuple[int, dict[int, bytes]]:
    """Return the capacity of a stream in bytes and its grains by offset; the directory must name the same grains."""
    magic, version, flags, capacity, grain = struct.unpack_from("<4sIIQQ", stream)
    assert (magic, version, flags, grain) == (b"KDMV", 3, 0x30001, 128)
    grains, at, kinds = {}, 128 * SECTOR, []
    while True:
        value, size, kind = struct.unpack_from("<QII", stream, at)
        if size:
            grains[value * SECTOR] = zlib.decompress(stream[at + 12 : at + 12 + size])
            at += -(-(12 + size) // SECTOR) * SECTOR
            continue
        kinds.append(kind)
        at += SECTOR * (1 + value)
        if kind == 0:
            break
    assert at == len(stream)
    assert kinds[-3:] == [2, 3, 0]
    assert listed(stream) == grains.keys()
    return capacity * SECTOR, grains


def listed(stream: bytes) -> set[int]:
    """Return the offsets of the grains that the footer's directory leads to."""
    footer = len(stream) - 2 * SECTOR
    (capacity,) = struct.unpack_from("<Q", stream, footer + 12)
    (directory,) = struct.unpack_from("<Q", stream, footer + 56)
    found = set()
    for n, table in enumerate(struct.unpack_from(f"<{-(-capacity // (128 * 512))}I", stream, directory * SECTOR)):
        if table:
            places = struct.unpack_from("<512I", stream, table * SECTOR)
            found |= {(n * 512 + i) * 128 * SECTOR for i, place in enumerate(places) if place}
    return found


def encode(capacity: int, grains: dict[int, bytes]) -> bytes:
    """Return a stream without directory, as far as a sequential reader needs it."""
    header = struct.pack("<4sIIQQQQIQQQ", b"KDMV", 3, 0x30001, capacity // SECTOR, 128, 0, 0, 512, 0, 2**64 - 1, 128)
    stream = header.ljust(128 * SECTOR, b"\0")
    for offset, data in sorted(grains.items()):
        packed = zlib.compress(data)
        block = struct.pack("<QI", offset // SECTOR, len(packed)) + packed
        stream += block.ljust(-(-len(block) // SECTOR) * SECTOR, b"\0")
    return stream + bytes(SECTOR)


def send(vc: Client, url: str, data: bytes, method: str = "POST") -> int:
    request = urllib.request.Request(url, data, method=method)  # noqa: S310 # the lab's own https
    with urllib.request.urlopen(request, context=vc.tls, timeout=30) as answer:  # noqa: S310
        return int(answer.status)


def ready(lease: Any) -> Any:
    """Wait until a lease is no longer initializing and return it."""
    pause = threading.Event()
    while lease.state == "initializing":
        pause.wait(0.01)
    return lease


def test_a_snapshot_is_exported_with_its_frozen_bytes(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM0")
    write(vc.running_bytes(vm), 40 * MIB + 7, b"frozen")
    write(vc.running_bytes(vm), 64 * MIB - 4, b"last")
    taken = vc.snapshot(vm)
    write(vc.running_bytes(vm), 40 * MIB + 7, b"change")
    lease = ready(taken.ExportSnapshot())
    assert lease.state == "ready"
    assert lease.info.entity == vm
    [device] = lease.info.deviceUrl
    assert (device.disk, device.key) == (True, f"/{vm._moId}/ParaVirtualSCSIController0:0")
    stream = vc.get(device.url)
    capacity, grains = decode(stream)
    assert capacity == 64 * MIB
    assert grains.keys() == {40 * MIB, 64 * MIB - 65536}
    assert grains[40 * MIB][7:13] == b"frozen"
    assert grains[64 * MIB - 65536][-4:] == b"last"

    lease.HttpNfcLeaseProgress(42)
    assert lease.transferProgress == 42
    [entry] = lease.HttpNfcLeaseGetManifest()
    assert (entry.key, entry.size) == (device.key, len(stream))
    lease.HttpNfcLeaseComplete()
    assert lease.state == "done"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        vc.get(device.url)
    vc.remove(taken)


def test_a_machine_is_exported_only_when_it_is_off(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM1")
    with pytest.raises(vim.fault.InvalidPowerState):
        vm.ExportVm()
    vc.wait(vm.PowerOffVM_Task())
    write(vc.running_bytes(vm), 0, b"off")
    lease = ready(vm.ExportVm())
    _, grains = decode(vc.get(lease.info.deviceUrl[0].url))
    assert grains[0][:3] == b"off"
    lease.HttpNfcLeaseAbort()
    assert lease.state == "error"
    with pytest.raises(vim.fault.InvalidState):
        lease.HttpNfcLeaseProgress(1)
    vc.wait(vm.PowerOnVM_Task())


def test_a_transfer_breaks_off_when_told(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM0")
    taken = vc.snapshot(vm)
    lease = ready(taken.ExportSnapshot())
    rule = {"method": "nfc:GET", "machine": vm.name, "action": "drop", "after_bytes": 70_000, "times": 1}
    vc.control("POST", "/faults", rule)
    with pytest.raises((http.client.IncompleteRead, OSError)):
        vc.get(lease.info.deviceUrl[0].url)
    decode(vc.get(lease.info.deviceUrl[0].url))
    lease.HttpNfcLeaseComplete()
    vc.remove(taken)


def test_a_machine_is_exported_once_at_a_time_and_loses_no_snapshot_meanwhile(vc: Client) -> None:
    vm = vc.machine("DC0_H0_VM0")
    taken = vc.snapshot(vm)
    lease = ready(taken.ExportSnapshot())
    assert [one["lease"] for one in vc.control("GET", "/leases")] == [lease._moId]
    with pytest.raises(vim.fault.TaskInProgress):
        taken.ExportSnapshot()
    with pytest.raises(vim.fault.TaskInProgress):
        vc.remove(taken)
    assert vc.control("DELETE", "/leases") == {"ended": 1}
    assert lease.state == "error"
    ready(taken.ExportSnapshot()).HttpNfcLeaseComplete()
    assert vc.control("GET", "/leases") == []
    vc.remove(taken)


def importing(vc: Client, name: str) -> Any:
    """Begin the import of a machine with one disk of 64 MiB and return the lease."""
    disk = vim.vm.device.VirtualDisk(
        key=-2,
        controllerKey=-1,
        unitNumber=0,
        capacityInKB=64 * 1024,
        backing=vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent", thinProvisioned=True),
    )
    device = vim.vm.device.VirtualDeviceSpec
    spec = vim.vm.ConfigSpec(
        name=name,
        guestId="otherGuest64",
        files=vim.vm.FileInfo(vmPathName="[LocalDS_0]"),
        deviceChange=[
            device(operation="add", device=vim.vm.device.ParaVirtualSCSIController(key=-1, sharedBus="noSharing")),
            device(operation="add", fileOperation="create", device=disk),
        ],
    )
    [center] = vc.all(vim.Datacenter)
    pool = vc.machine("DC0_H0_VM0").resourcePool
    return ready(pool.ImportVApp(spec=vim.vm.VmImportSpec(configSpec=spec), folder=center.vmFolder))


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_an_imported_disk_holds_what_was_sent(vc: Client, method: str) -> None:
    lease = importing(vc, f"Imported{method}")
    vm = lease.info.entity
    grains = {0: b"A" * 65536, 33 * MIB: b"B" * 65536}
    assert send(vc, lease.info.deviceUrl[0].url, encode(64 * MIB, grains), method) == 201
    lease.HttpNfcLeaseComplete()
    assert disks(vm.config)[0].capacityInBytes == 64 * MIB
    bytes_of = vc.running_bytes(vm)
    assert [read(bytes_of, at, 1) for at in (0, 65535, 65536, 33 * MIB)] == [b"A", b"A", b"\0", b"B"]
    again = ready(vm.ExportVm())
    assert decode(vc.get(again.info.deviceUrl[0].url)) == (64 * MIB, grains)
    again.HttpNfcLeaseComplete()


def test_an_import_that_is_aborted_leaves_no_machine(vc: Client) -> None:
    lease = importing(vc, "Aborted")
    home = vc.running_bytes(lease.info.entity).parent
    for stream in (b"no disk", encode(65 * MIB, {})):
        with pytest.raises(urllib.error.HTTPError, match="500"):
            send(vc, lease.info.deviceUrl[0].url, stream)
    lease.HttpNfcLeaseAbort()
    pause = threading.Event()
    while home.exists():
        pause.wait(0.01)
    assert "Aborted" not in [vm.name for vm in vc.all(vim.VirtualMachine)]
