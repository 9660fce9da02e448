"""The configuration of a machine as a restore point keeps it: properties of vSphere in, text out, and back."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.errors import DataDamaged, RequestInvalid
from holdfast.model.ids import DiskKey
from holdfast.providers.vsphere.devices import disk_key
from holdfast.providers.vsphere.disk_rules import datastore_of
from holdfast.providers.vsphere.properties import Values

CAPTURED: Final = (
    "config.name",
    "config.guestId",
    "config.version",
    "config.firmware",
    "config.annotation",
    "config.hardware.numCPU",
    "config.hardware.numCoresPerSocket",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.bootOptions.efiSecureBootEnabled",
    "config.uuid",
)
"""What is read of a machine or of the configuration in a snapshot."""
_KEY: Final = "vsphere"


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """A controller of disks."""

    key: int
    kind: str
    """Name of the class in the API, such as ``ParaVirtualSCSIController``."""
    bus: int


class CapturedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """Where a disk was attached and how its file was made."""

    key: DiskKey
    label: str
    controller: int
    unit: int
    is_thin: bool
    datastore: str
    """Where its file was."""


class NetworkCard(msgspec.Struct, frozen=True, kw_only=True):
    """A network card."""

    key: int
    kind: str
    network: str
    """Its name."""
    mac: str
    is_connected: bool
    portgroup: str = ""
    """Key of the portgroup when the network is one of a distributed switch."""
    switch: str = ""
    """Uuid of that switch."""


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """A machine without its data. Fields are only ever added, with defaults."""

    guest: str = "otherGuest64"
    version: str = ""
    firmware: str = "bios"
    is_secure_boot: bool = False
    notes: str = ""
    cpus: int = 1
    cores_per_socket: int = 1
    memory_mib: int = 1024
    bios_uuid: str = ""
    controllers: tuple[Controller, ...] = ()
    disks: tuple[CapturedDisk, ...] = ()
    networks: tuple[NetworkCard, ...] = ()


_HARDWARE_DECODER: Final = msgspec.json.Decoder(Hardware)


def captured(values: Values, portgroups: Mapping[str, str]) -> dict[str, str]:
    """Return what a restore needs to make the machine again, as a machine's configuration holds it.

    ``portgroups`` are the names of the portgroups of `portgroups_of`, by key.
    """
    devices = values.get("config.hardware.device") or ()
    hardware = Hardware(
        guest=values.get("config.guestId") or "otherGuest64",
        version=values.get("config.version") or "",
        firmware=values.get("config.firmware") or "bios",
        is_secure_boot=bool(values.get("config.bootOptions.efiSecureBootEnabled")),
        notes=values.get("config.annotation") or "",
        cpus=values.get("config.hardware.numCPU") or 1,
        cores_per_socket=values.get("config.hardware.numCoresPerSocket") or 1,
        memory_mib=values.get("config.hardware.memoryMB") or 1024,
        bios_uuid=values.get("config.uuid") or "",
        controllers=tuple(_controllers(devices)),
        disks=tuple(_disks(devices)),
        networks=tuple(_networks(devices, portgroups)),
    )
    return {_KEY: msgspec.json.encode(hardware).decode()}


def hardware_in(configuration: dict[str, str]) -> Hardware:
    """Return the hardware of a captured machine; that of a plain machine when it was captured elsewhere.

    Raises `DataDamaged` when it is there and cannot be read.
    """
    text = configuration.get(_KEY)
    if text is None:
        return Hardware()
    try:
        return _HARDWARE_DECODER.decode(text)
    except msgspec.DecodeError as error:
        raise DataDamaged(f"the captured configuration of the machine cannot be read: {error}") from error


def connected(hardware: Hardware, networks: Mapping[str, str]) -> Hardware:
    """Return hardware whose cards are in other networks, by the captured ones.

    Raises `RequestInvalid` for a network that none of its cards is in.
    """
    strangers = sorted(set(networks) - {card.network for card in hardware.networks})
    if strangers:
        known = ", ".join(sorted({card.network for card in hardware.networks})) or "none"
        raise RequestInvalid(f"no card of the machine is in network {strangers[0]!r}", hint=f"Its networks: {known}.")
    cards = (
        # The very portgroup is not wanted any more; another of the same switch is still the likeliest.
        msgspec.structs.replace(card, network=networks[card.network], portgroup="")
        if card.network in networks
        else card
        for card in hardware.networks
    )
    return msgspec.structs.replace(hardware, networks=tuple(cards))


def _controllers(devices: Iterable[Any]) -> Iterable[Controller]:
    disks = {device.controllerKey for device in devices if isinstance(device, vim.vm.device.VirtualDisk)}
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualController) and device.key in disks:
            yield Controller(key=device.key, kind=_class(device), bus=device.busNumber)


def _disks(devices: Iterable[Any]) -> Iterable[CapturedDisk]:
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualDisk):
            yield CapturedDisk(
                key=disk_key(device),
                label=device.deviceInfo.label if device.deviceInfo else "",
                controller=device.controllerKey or 0,
                unit=device.unitNumber or 0,
                is_thin=bool(getattr(device.backing, "thinProvisioned", None)),
                datastore=datastore_of(getattr(device.backing, "fileName", None) or ""),
            )


def portgroups_of(devices: Iterable[Any]) -> Iterator[str]:
    """Yield the keys of the portgroups of distributed switches that network cards are in, each once."""
    cards = (device for device in devices if isinstance(device, vim.vm.device.VirtualEthernetCard))
    yield from dict.fromkeys(key for key, _ in map(_port, cards) if key)


def _networks(devices: Iterable[Any], portgroups: Mapping[str, str]) -> Iterable[NetworkCard]:
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualEthernetCard):
            key, switch = _port(device)
            yield NetworkCard(
                key=device.key,
                kind=_class(device),
                network=portgroups.get(key) or getattr(device.backing, "deviceName", None) or "",
                mac=device.macAddress or "",
                is_connected=bool(device.connectable and device.connectable.startConnected),
                portgroup=key,
                switch=switch,
            )


def _port(card: Any) -> tuple[str, str]:
    """Return the portgroup key and the switch uuid of a card; empty when it is in a network of hosts."""
    port = getattr(card.backing, "port", None)
    return ("", "") if port is None else (port.portgroupKey or "", port.switchUuid or "")


def _class(device: Any) -> str:
    return type(device).__name__.rpartition(".")[2]
