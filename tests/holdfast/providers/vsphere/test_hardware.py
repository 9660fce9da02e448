"""The hardware of a machine is captured in a snapshot and made again from it."""

import pytest
from pyVmomi import vim

from holdfast.errors import DataDamaged
from holdfast.providers.vsphere.hardware import Hardware, captured, hardware_in

DEVICE = vim.vm.device


def test_what_a_restore_needs_is_captured() -> None:
    card = DEVICE.VirtualVmxnet3(
        key=4000,
        macAddress="00:50:56:00:00:01",
        backing=DEVICE.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network"),
        connectable=DEVICE.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=False),
    )
    backing = DEVICE.VirtualDisk.FlatVer2BackingInfo(
        fileName="[ds1] w/w.vmdk", diskMode="persistent", thinProvisioned=True
    )
    devices = [
        DEVICE.ParaVirtualSCSIController(key=1000, busNumber=0),
        DEVICE.VirtualAHCIController(key=15000, busNumber=0),
        DEVICE.VirtualDisk(key=2000, controllerKey=1000, unitNumber=0, backing=backing),
        card,
    ]
    values = {
        "config.guestId": "debian12_64Guest",
        "config.version": "vmx-19",
        "config.firmware": "efi",
        "config.hardware.numCPU": 4,
        "config.hardware.memoryMB": 8192,
        "config.hardware.device": devices,
        "config.bootOptions.efiSecureBootEnabled": True,
    }
    found = hardware_in(captured(values, {}))
    assert (found.guest, found.version, found.firmware) == ("debian12_64Guest", "vmx-19", "efi")
    assert (found.cpus, found.cores_per_socket, found.memory_mib, found.is_secure_boot) == (4, 1, 8192, True)
    assert [(one.key, one.kind) for one in found.controllers] == [(1000, "ParaVirtualSCSIController")]
    [disk], [network] = found.disks, found.networks
    assert (disk.key, disk.controller, disk.unit, disk.is_thin, disk.datastore) == ("2000", 1000, 0, True, "ds1")
    assert (network.kind, network.network, network.mac) == ("VirtualVmxnet3", "VM Network", "00:50:56:00:00:01")
    assert network.is_connected


def test_a_machine_that_was_captured_elsewhere_becomes_a_plain_one() -> None:
    assert hardware_in({"local": "{}"}) == Hardware()
    assert hardware_in(captured({}, {})) == Hardware()


@pytest.mark.parametrize("text", ["", "[]", '{"cpus": "many"}'])
def test_what_cannot_be_read_is_damage(text: str) -> None:
    with pytest.raises(DataDamaged):
        hardware_in({"vsphere": text})
