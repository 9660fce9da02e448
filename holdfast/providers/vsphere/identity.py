"""MAC addresses and the BIOS uuid of a captured machine in a new one: only where nobody else has them.

Two cards with one MAC address in one network cut off both machines, and a uuid that two machines have confuses whoever
knows machines by it. So a claim is checked when a target is made and again before it becomes a machine. The instance
uuid is never kept: a vCenter has each of them once, and we know machines by it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.errors import IdentityTaken, RequestInvalid
from holdfast.model.machine import Identifier, Identity
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hardware import Hardware
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import Values, walk

FACTS: Final = ("name", "config.uuid", "config.hardware.device")
"""What is read of every machine when a claim is checked."""
_MAC: Final = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)
_ONLY_NEW: Final = "Restore it with a new one."
_RESERVED: Final = ("00:0c:29:", "00:05:69:")
"""Beginnings of addresses that hosts generate; they refuse them as static ones unless they are told not to look."""
_VMWARE: Final = "00:50:56:"
_STATIC_MAX: Final = 0x3F
"""Highest fourth byte of VMware's own addresses that hosts take for static."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Identifiers that one machine alone shall have."""

    uuid: str = ""
    """Empty: none is claimed."""
    cards: tuple[tuple[str, str], ...] = ()
    """MAC address and network of each card, as `network_of` gives it."""

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is claimed."""
        return not self.uuid and not self.cards


def check_known(identity: Identity, hardware: Hardware) -> None:
    """Raise `RequestInvalid` when an identifier that shall be kept was not captured."""
    if identity.uuid is Identifier.KEEP and not hardware.bios_uuid:
        raise RequestInvalid("the restore point does not say which uuid the machine had", hint=_ONLY_NEW)
    if identity.mac_addresses is Identifier.KEEP and not all(_MAC.fullmatch(card.mac) for card in hardware.networks):
        raise RequestInvalid("the restore point does not say which MAC addresses the machine had", hint=_ONLY_NEW)


def claim_of(identity: Identity, uuid: str, devices: Iterable[Any]) -> Claim:
    """Return what a machine claims with this uuid and these devices."""
    keeps_addresses = identity.mac_addresses is Identifier.KEEP
    return Claim(
        uuid=uuid.lower() if identity.uuid is Identifier.KEEP else "",
        cards=tuple(_cards(devices)) if keeps_addresses else (),
    )


def check_free(connection: Connection, claim: Claim, own: Any = None) -> list[str]:
    """Return what the operator should know of other machines in view of a claim; ``own`` is the one that claims.

    Raises `IdentityTaken` when one has the uuid, or a MAC address in the network of the card that shall have it.
    """
    if claim.is_empty:
        return []
    others = (values for vm, values in walk(connection, vim.VirtualMachine, FACTS) if vm != own)
    return [note for values in others for note in _in_view_of(claim, values)]


def changed(claim: Claim, values: Values) -> list[str]:
    """Return what a machine that was made did not get of its claim, in words."""
    notes = []
    uuid = str(values.get("config.uuid") or "")
    if claim.uuid and uuid.lower() != claim.uuid:
        notes.append(f"the vCenter gave the machine the uuid {uuid} instead of {claim.uuid}")
    got = {mac for mac, _ in _cards(values.get("config.hardware.device") or ())}
    lost = [mac for mac, _ in claim.cards if mac not in got]
    return [*notes, *(f"the vCenter gave a network card another MAC address than {mac}" for mac in lost)]


def permissions(claim: Claim, devices: Iterable[Any]) -> Iterator[Any]:
    """Yield the options by which a host takes claimed addresses as static ones that it would have made itself.

    ``devices`` are those of a machine that was just made, whose cards are numbered in their order.
    """
    claimed = {mac for mac, _ in claim.cards if is_reserved(mac)}
    cards = (device for device in devices if isinstance(device, vim.vm.device.VirtualEthernetCard))
    for number, card in enumerate(cards):
        if (card.macAddress or "").lower() in claimed:
            yield vim.option.OptionValue(key=f"ethernet{number}.checkMACAddress", value="FALSE")


def is_reserved(mac: str) -> bool:
    """Return whether hosts keep an address for themselves or their vCenter; it is written in small letters."""
    if mac.startswith(_VMWARE):
        return int(mac.split(":")[3], 16) > _STATIC_MAX
    return mac.startswith(_RESERVED)


def network_of(backing: Any) -> str:
    """Return which network a card is in, as a text that is the same for two cards in one; empty when it is not known.

    Networks of hosts are known by their names: one of the same name elsewhere counts as the same.
    """
    port = getattr(backing, "port", None)
    if port is not None:
        return f"{port.switchUuid}/{port.portgroupKey}"
    return getattr(backing, "deviceName", None) or getattr(backing, "opaqueNetworkId", None) or ""


def _cards(devices: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualEthernetCard) and device.macAddress:
            yield device.macAddress.lower(), network_of(device.backing)


def _in_view_of(claim: Claim, values: Values) -> Iterator[str]:
    name = plain_name(values.get("name") or "")
    uuid = str(values.get("config.uuid") or "").lower()
    if claim.uuid and claim.uuid == uuid:
        raise IdentityTaken(f"machine {name!r} has the uuid {uuid} already")
    claimed = dict(claim.cards)
    for mac, network in _cards(values.get("config.hardware.device") or ()):
        if mac not in claimed:
            continue
        # Whoever does not know the networks cannot know that they are two.
        if not network or claimed[mac] in {"", network}:
            raise IdentityTaken(
                f"machine {name!r} has the MAC address {mac} in the same network already",
                hint="Restore with new addresses, connect the card elsewhere with `--network`, or take that machine "
                "out of the vCenter's inventory first.",
            )
        yield f"machine {name!r} has the MAC address {mac} too, in another network: they must never be joined"
