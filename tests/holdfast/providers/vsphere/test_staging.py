"""Disks of a restore get the slots that they had, or the next free ones."""

from hypothesis import given
from hypothesis import strategies as st
from pyVmomi import vim

from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk
from holdfast.providers.vsphere import staging
from holdfast.providers.vsphere.hardware import CapturedDisk, Controller, Hardware, NetworkCard
from holdfast.providers.vsphere.networks import Network
from holdfast.providers.vsphere.staging import Slot

LSI = Controller(key=1000, kind="VirtualLsiLogicController", bus=0)
SATA = Controller(key=15000, kind="VirtualAHCIController", bus=0)


def captured(key: str, controller: int, unit: int) -> CapturedDisk:
    return CapturedDisk(key=DiskKey(key), label="", controller=controller, unit=unit, is_thin=True, datastore="ds")


def disks(*keys: str) -> list[Disk]:
    return [Disk(key=DiskKey(key), size_bytes=512) for key in keys]


def test_a_disk_comes_back_to_its_slot_and_unused_controllers_stay_away() -> None:
    hardware = Hardware(controllers=(LSI, SATA), disks=(captured("2003", 1000, 3), captured("16000", 15000, 0)))
    controllers, slots = staging.slots_of(hardware, disks("2003"))
    assert controllers == (LSI,)
    assert slots == {"2003": Slot(controller=1000, unit=3)}


def test_a_disk_of_an_unknown_controller_takes_a_free_slot() -> None:
    strange = Controller(key=1000, kind="VirtualFutureController", bus=0)
    _, slots = staging.slots_of(Hardware(controllers=(strange,), disks=(captured("a", 1000, 5),)), disks("a", "b"))
    assert slots == {"a": Slot(controller=1000, unit=0), "b": Slot(controller=1000, unit=1)}


@given(st.integers(0, 60), st.sets(st.integers(0, 15).filter(lambda unit: unit != 7)))
def test_every_disk_has_a_slot_of_its_own(count: int, taken: set[int]) -> None:
    old = tuple(captured(f"old{unit}", 1000, unit) for unit in taken)
    wanted = disks(*[f"old{unit}" for unit in taken], *[f"new{n}" for n in range(count - len(taken))])
    controllers, slots = staging.slots_of(Hardware(controllers=(LSI,), disks=old), wanted)
    assert len(set(slots.values())) == len(wanted)
    assert all(slot.unit != 7 for slot in slots.values())
    assert {slot.controller for slot in slots.values()} == {one.key for one in controllers}


def test_new_disks_speak_of_controllers_of_the_same_specification() -> None:
    [change] = staging.controller_changes([LSI])
    assert isinstance(change.device, vim.vm.device.VirtualLsiLogicController)
    made = staging.new_disk(Slot(controller=1000, unit=2), 1 << 20, "[ds] a/a.vmdk", number=0)
    assert made.device.controllerKey == change.device.key == staging.temporary_key(1000)
    assert (made.fileOperation, made.device.capacityInBytes, made.device.unitNumber) == ("create", 1 << 20, 2)


def test_attaching_and_detaching_leave_files_alone() -> None:
    attached = staging.attached_disk(Slot(controller=1000, unit=2), 512, "[ds] a/a.vmdk", number=3)
    assert (attached.operation, attached.fileOperation, attached.device.key) == ("add", None, -4)
    detached = staging.detached_disk(attached.device)
    assert (detached.operation, detached.fileOperation) == ("remove", None)


def test_cards_get_new_addresses_and_only_networks_that_are_there() -> None:
    cards = [
        NetworkCard(key=4000, kind="VirtualE1000", network="here", mac="00:50:56:00:00:01", is_connected=True),
        NetworkCard(key=4001, kind="VirtualFuture", network="here", mac="", is_connected=False),
        NetworkCard(key=4002, kind="VirtualE1000", network="gone", mac="", is_connected=True),
    ]
    network = Network(name="here", managed=vim.Network("network-1", None))
    first, second = staging.card_changes(cards, [network])
    assert isinstance(first.device, vim.vm.device.VirtualE1000)
    assert isinstance(second.device, vim.vm.device.VirtualVmxnet3)
    assert (first.device.addressType, first.device.macAddress) == ("generated", None)
    connected = [change.device.connectable for change in (first, second)]
    assert [one is not None and one.startConnected for one in connected] == [True, False]
