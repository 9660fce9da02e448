"""Device changes that make, detach and attach the disks of a restore: values in, specifications of the API out."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk, Identifier
from holdfast.providers.vsphere.hardware import Controller, Hardware, NetworkCard
from holdfast.providers.vsphere.networks import Network, backing_of, network_for

_DEVICE: Final = vim.vm.device
_ADD: Final = _DEVICE.VirtualDeviceSpec.Operation.add
_REMOVE: Final = _DEVICE.VirtualDeviceSpec.Operation.remove
_CREATE: Final = _DEVICE.VirtualDeviceSpec.FileOperation.create
_KIB: Final = 1024
_UNITS: Final = 16
_CONTROLLER_UNIT: Final = 7
_PLAIN: Final = Controller(key=1000, kind="ParaVirtualSCSIController", bus=0)
_FIRST_TEMPORARY: Final = -1000
_CONTROLLERS: Final = {
    kind.__name__.rpartition(".")[2]: kind
    for kind in (
        _DEVICE.ParaVirtualSCSIController,
        _DEVICE.VirtualLsiLogicController,
        _DEVICE.VirtualLsiLogicSASController,
        _DEVICE.VirtualBusLogicController,
        _DEVICE.VirtualAHCIController,
        _DEVICE.VirtualNVMEController,
    )
}
_CARDS: Final = {
    kind.__name__.rpartition(".")[2]: kind
    for kind in (
        _DEVICE.VirtualE1000,
        _DEVICE.VirtualE1000e,
        _DEVICE.VirtualVmxnet3,
        _DEVICE.VirtualVmxnet2,
        _DEVICE.VirtualPCNet32,
    )
}


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """Where on a machine a disk is attached."""

    controller: int
    unit: int


def slots_of(hardware: Hardware, disks: Iterable[Disk]) -> tuple[tuple[Controller, ...], dict[DiskKey, Slot]]:
    """Return the controllers a machine needs and the slot of each disk: its own, else the next free one."""
    known = {disk.key: Slot(controller=disk.controller, unit=disk.unit) for disk in hardware.disks}
    controllers = {one.key: one for one in hardware.controllers if one.kind in _CONTROLLERS}
    slots: dict[DiskKey, Slot] = {}
    strangers = []
    for disk in disks:
        slot = known.get(disk.key)
        if slot is not None and slot.controller in controllers:
            slots[disk.key] = slot
        else:
            strangers.append(disk.key)
    if strangers:
        free = _free_slots(controllers, set(slots.values()))
        for key in strangers:
            slots[key] = next(free)
    used = {slot.controller for slot in slots.values()}
    return tuple(one for key, one in controllers.items() if key in used), slots


def _free_slots(controllers: dict[int, Controller], taken: set[Slot]) -> Iterator[Slot]:
    """Yield free places, first on the controllers there are, then on new ones, which are added to them."""
    for bus in range(4):
        controller = next((one for one in controllers.values() if one.bus == bus and "SCSI" in one.kind), None)
        if controller is None:
            controller = msgspec.structs.replace(_PLAIN, key=_PLAIN.key + bus, bus=bus)
            controllers[controller.key] = controller
        for unit in range(_UNITS):
            slot = Slot(controller=controller.key, unit=unit)
            if unit != _CONTROLLER_UNIT and slot not in taken:
                yield slot


def free_slots(devices: Sequence[Any], taken: set[Slot]) -> Iterator[Slot]:
    """Yield the places on the SCSI controllers of a machine that no disk has, in order."""
    controllers = [device for device in devices if isinstance(device, _DEVICE.VirtualSCSIController)]
    for controller in sorted(controllers, key=lambda one: int(one.busNumber)):
        for unit in range(_UNITS):
            slot = Slot(controller=controller.key, unit=unit)
            if unit != _CONTROLLER_UNIT and slot not in taken:
                yield slot


def controller_changes(controllers: Iterable[Controller]) -> Iterator[Any]:
    """Yield changes that add controllers under temporary keys, see `temporary_key`."""
    for controller in controllers:
        device = _CONTROLLERS[controller.kind](key=temporary_key(controller.key), busNumber=controller.bus)
        if isinstance(device, _DEVICE.VirtualSCSIController):
            device.sharedBus = _DEVICE.VirtualSCSIController.Sharing.noSharing
        yield _DEVICE.VirtualDeviceSpec(operation=_ADD, device=device)


def temporary_key(key: int) -> int:
    """Return the key by which one specification speaks of a controller that it adds."""
    return _FIRST_TEMPORARY - key


def new_disk(slot: Slot, size_bytes: int, file: str, *, number: int) -> Any:
    """Return the change that makes an empty thin disk in ``file``, on a controller of the same specification."""
    backing = _backing(file)
    backing.thinProvisioned = True
    device = _disk(backing, temporary_key(slot.controller), slot.unit, number)
    device.capacityInBytes = size_bytes
    device.capacityInKB = size_bytes // _KIB
    return _DEVICE.VirtualDeviceSpec(operation=_ADD, fileOperation=_CREATE, device=device)


def attached_disk(slot: Slot, size_bytes: int, file: str, *, number: int) -> Any:
    """Return the change that attaches a disk that exists to a controller that exists."""
    device = _disk(_backing(file), slot.controller, slot.unit, number)
    device.capacityInBytes = size_bytes
    device.capacityInKB = size_bytes // _KIB
    return _DEVICE.VirtualDeviceSpec(operation=_ADD, device=device)


def detached_disk(device: Any) -> Any:
    """Return the change that takes a disk off a machine and leaves its file alone."""
    return _DEVICE.VirtualDeviceSpec(operation=_REMOVE, device=device)


def card_changes(
    cards: Iterable[NetworkCard], networks: Sequence[Network], addresses: Identifier = Identifier.NEW
) -> Iterator[Any]:
    """Yield changes that add network cards, each in its network, see `network_for`, with new or the captured addresses.

    A card whose network is not there is left out: a machine with it could not be made.
    """
    for number, card in enumerate(cards):
        network = network_for(card, networks)
        if network is None:
            continue
        device = _CARDS.get(card.kind, _DEVICE.VirtualVmxnet3)(key=_FIRST_TEMPORARY * 10 - number)
        device.backing = backing_of(network)
        device.connectable = _DEVICE.VirtualDevice.ConnectInfo(
            startConnected=card.is_connected, allowGuestControl=True, connected=False
        )
        device.addressType = "generated"
        if addresses is Identifier.KEEP:
            device.addressType, device.macAddress = "manual", card.mac
        yield _DEVICE.VirtualDeviceSpec(operation=_ADD, device=device)


def _backing(file: str) -> Any:
    return _DEVICE.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode="persistent")


def _disk(backing: Any, controller: int, unit: int, number: int) -> Any:
    return _DEVICE.VirtualDisk(key=-1 - number, backing=backing, controllerKey=controller, unitNumber=unit)
