"""The devices of a machine are read into facts about its disks."""

from typing import Any

import pytest
from pyVmomi import vim

from holdfast.providers.vsphere.devices import disk_key, disks_of, places_of
from holdfast.providers.vsphere.disk_rules import Mapping, reason_to_skip

DEVICE = vim.vm.device
DISK = DEVICE.VirtualDisk
FLAT = DISK.FlatVer2BackingInfo
PLAIN = {"fileName": "[ds] a/a.vmdk", "diskMode": "persistent"}


def disk(backing: Any, key: int = 2000, controller: int = 1000, unit: int = 0) -> Any:
    device: Any = DISK(key=key, controllerKey=controller, unitNumber=unit, backing=backing)
    device.capacityInBytes, device.capacityInKB = 1 << 20, 1 << 10
    return device


def controller(sharing: str, key: int = 1000) -> Any:
    return DEVICE.ParaVirtualSCSIController(key=key, busNumber=0, sharedBus=sharing)


@pytest.mark.parametrize(
    "backing, reason",
    [
        (FLAT(**PLAIN), None),
        (FLAT(**PLAIN, sharing="sharingNone"), None),
        (FLAT(**PLAIN, keyId=vim.encryption.CryptoKeyId(keyId="key-1")), None),
        (DISK.SeSparseBackingInfo(**PLAIN), None),
        (DISK.RawDiskMappingVer1BackingInfo(**PLAIN, compatibilityMode="virtualMode"), None),
        (FLAT(**PLAIN, sharing="sharingMultiWriter"), "several machines"),
        (FLAT(fileName="[ds] a/a.vmdk", diskMode="independent_persistent"), "independent"),
        (DISK.RawDiskMappingVer1BackingInfo(**PLAIN, compatibilityMode="physicalMode"), "raw device"),
        (DISK.RawDiskVer2BackingInfo(descriptorFileName="[ds] a/a.vmdk", deviceName="x"), "raw device"),
    ],
)
def test_the_kind_of_a_disk_decides_whether_it_is_protected(backing: Any, reason: str | None) -> None:
    [facts] = disks_of([controller("noSharing"), disk(backing)])
    found = reason_to_skip(facts)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize("sharing", ["physicalSharing", "virtualSharing"])
def test_all_disks_on_a_shared_bus_are_shared(sharing: str) -> None:
    shared, own = disks_of(
        [controller(sharing), controller("noSharing", 1001), disk(FLAT(**PLAIN)), disk(FLAT(**PLAIN), 2016, 1001)]
    )
    assert (shared.is_shared, own.is_shared) == (True, False)


def test_disks_come_by_their_place_and_other_devices_do_not_matter() -> None:
    devices = [
        DEVICE.VirtualKeyboard(key=600),
        disk(FLAT(**PLAIN), 2003, unit=3),
        disk(FLAT(**PLAIN), 2000, unit=0),
        disk(FLAT(**PLAIN), 16000, 15000),
    ]
    assert [facts.key for facts in disks_of(devices)] == ["2000", "2003", "16000"]
    assert disk_key(devices[1]) == "2003"


def test_what_a_server_leaves_out_has_a_meaning() -> None:
    bare = DISK(key=2000, backing=FLAT(fileName="[ds] a/a.vmdk"), capacityInKB=8)
    [facts] = disks_of([bare])
    assert (facts.size_bytes, facts.mode, facts.label) == (8192, "persistent", "disk 2000")
    assert (facts.uuid, facts.change_id, facts.is_child, facts.mapping) == ("", None, False, Mapping.NONE)


def test_a_child_and_its_change_id_are_seen() -> None:
    child = FLAT(**PLAIN, changeId="52 a/7", uuid="u", parent=FLAT(**PLAIN))
    [facts] = disks_of([disk(child)])
    assert (facts.is_child, facts.change_id, facts.has_tracking, facts.uuid) == (True, "52 a/7", True, "u")
    assert facts.mapping is Mapping.NONE


def test_sizes_are_plain_numbers_that_can_be_written_down() -> None:
    [facts] = disks_of([disk(FLAT(**PLAIN))])
    assert type(facts.size_bytes) is int


def test_the_place_of_a_disk_is_its_controller_and_its_number_there() -> None:
    second = DEVICE.VirtualLsiLogicController(key=1001, busNumber=1, sharedBus="noSharing")
    lost = disk(FLAT(**PLAIN), 2100, 1002)
    devices = [controller("noSharing"), second, disk(FLAT(**PLAIN)), disk(FLAT(**PLAIN), 2019, 1001, 3), lost]
    assert places_of(devices) == {"2000": "ParaVirtualSCSIController0:0", "2019": "VirtualLsiLogicController1:3"}
