"""Reading the device list of a machine into facts."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pyVmomi import vim

from holdfast.model.ids import DiskKey
from holdfast.providers.vsphere.disk_rules import DiskFacts, Mapping

_SHARED: Final = "sharingMultiWriter"
_KIB: Final = 1024


def disks_of(devices: Iterable[Any]) -> Iterator[DiskFacts]:
    """Yield the disks among the devices of a machine or of a snapshot's configuration, by their place."""
    devices = list(devices)
    shared_buses = {device.key for device in devices if _is_shared_bus(device)}
    disks = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]
    for disk in sorted(disks, key=lambda disk: (disk.controllerKey or 0, disk.unitNumber or 0, disk.key)):
        yield _facts(disk, shared_buses)


def disk_key(device: Any) -> DiskKey:
    """Return the key of a disk."""
    return DiskKey(str(device.key))


def files_of(devices: Iterable[Any]) -> Iterator[str]:
    """Yield the files of all disks, and those that they are built on."""
    for device in devices:
        backing = device.backing if isinstance(device, vim.vm.device.VirtualDisk) else None
        while backing is not None:
            yield getattr(backing, "fileName", None) or ""
            backing = getattr(backing, "parent", None)


def places_of(devices: Iterable[Any]) -> dict[DiskKey, str]:
    """Return the places of all disks as leases name them, such as ``ParaVirtualSCSIController0:3``."""
    by_key = {device.key: device for device in devices}
    places = {}
    for disk in by_key.values():
        controller = by_key.get(disk.controllerKey)
        if isinstance(disk, vim.vm.device.VirtualDisk) and controller is not None:
            kind = type(controller).__name__.rpartition(".")[2]
            places[disk_key(disk)] = f"{kind}{controller.busNumber}:{disk.unitNumber}"
    return places


def _facts(disk: Any, shared_buses: set[int]) -> DiskFacts:
    backing = disk.backing
    return DiskFacts(
        key=disk_key(disk),
        label=disk.deviceInfo.label if disk.deviceInfo else f"disk {disk.key}",
        # A plain number: the library has a class of its own for long ones, which no codec knows.
        size_bytes=int(disk.capacityInBytes or (disk.capacityInKB or 0) * _KIB),
        file=getattr(backing, "fileName", None) or "",
        is_child=getattr(backing, "parent", None) is not None,
        uuid=getattr(backing, "uuid", None) or "",
        mode=getattr(backing, "diskMode", None) or "persistent",
        is_shared=getattr(backing, "sharing", None) == _SHARED or disk.controllerKey in shared_buses,
        mapping=_mapping(backing),
        encryption_key=_encryption_key(backing),
        controller=disk.controllerKey or 0,
        unit=disk.unitNumber or 0,
        has_tracking=hasattr(backing, "changeId"),
        change_id=getattr(backing, "changeId", None) or None,
    )


def _mapping(backing: Any) -> Mapping:
    kind = vim.vm.device.VirtualDisk
    if isinstance(backing, kind.RawDiskMappingVer1BackingInfo):
        return Mapping.PHYSICAL if backing.compatibilityMode == Mapping.PHYSICAL else Mapping.VIRTUAL
    is_raw = isinstance(backing, (kind.RawDiskVer2BackingInfo, kind.PartitionedRawDiskVer2BackingInfo))
    return Mapping.PHYSICAL if is_raw else Mapping.NONE


def _encryption_key(backing: Any) -> str:
    found = getattr(backing, "keyId", None)
    return "" if found is None else str(found.keyId)


def _is_shared_bus(device: Any) -> bool:
    sharing = getattr(device, "sharedBus", None)
    return sharing is not None and sharing != vim.vm.device.VirtualSCSIController.Sharing.noSharing
