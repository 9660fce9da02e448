"""Networks that cards are in: those of hosts, known by their names, and portgroups of distributed switches.

A card names a portgroup by its key and the uuid of its switch. Both are captured, and so is the name: where the very
portgroup is gone, or the restore is in another vCenter, the one of that name is meant.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.errors import MachineNotFound
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hardware import NetworkCard, portgroups_of
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import read, read_all, walk

_PORTGROUP: Final = vim.dvs.DistributedVirtualPortgroup
_UPLINKS: Final = "SYSTEM/DVS.UPLINKPG"
"""The tag of portgroups that are for the cards of hosts, and for no machine."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network that cards of machines can be in."""

    name: str
    managed: Any
    portgroup: str = ""
    """Key of the portgroup; empty: a network of hosts."""
    switch: str = ""
    """Uuid of the distributed switch."""


def portgroup_names(connection: Connection, devices: Iterable[Any]) -> dict[str, str]:
    """Return the names of the portgroups that cards of a machine are in, by key; of those that can be found."""
    return {key: name for key in portgroups_of(devices) if (name := _name_of(connection, key))}


def _name_of(connection: Connection, key: str) -> str:
    try:
        # As a rule the key is the id of the managed object.
        found = read(connection, connection.reference(_PORTGROUP, key), "name", "key")
    except MachineNotFound:
        found = {}
    if found.get("key") != key:
        listed = (values for _, values in walk(connection, _PORTGROUP, ("name", "key")))
        found = next((values for values in listed if values.get("key") == key), {})
    return plain_name(found.get("name") or "")


def networks_in(connection: Connection, datacenter: Any) -> list[Network]:
    """Return the networks of a datacenter, without those of uplinks."""
    found = [(one, values.get("name") or "") for one, values in walk(connection, vim.Network, ("name",), datacenter)]
    plain = [Network(name=plain_name(name), managed=one) for one, name in found if not isinstance(one, _PORTGROUP)]
    return [*plain, *_portgroups(connection, [one for one, _ in found if isinstance(one, _PORTGROUP)])]


def _portgroups(connection: Connection, found: Sequence[Any]) -> Iterator[Network]:
    switches: dict[str, str] = {}
    for one, values in read_all(connection, found, ("name", "key", "tag", "config.distributedVirtualSwitch")):
        switch = values.get("config.distributedVirtualSwitch")
        if switch is None or any(tag.key == _UPLINKS for tag in values.get("tag") or ()):
            continue
        if switch._moId not in switches:
            switches[switch._moId] = str(read(connection, switch, "uuid").get("uuid") or "")
        yield Network(
            name=plain_name(values["name"]), managed=one, portgroup=str(values["key"]), switch=switches[switch._moId]
        )


def network_for(card: NetworkCard, networks: Iterable[Network]) -> Network | None:
    """Return the network of a captured card: its very portgroup, else the one of its name that is most like it."""
    best: Network | None = None
    for one in networks:
        if card.portgroup and (one.portgroup, one.switch) == (card.portgroup, card.switch):
            return one
        if one.name == card.network and (best is None or _likeness(one, card) > _likeness(best, card)):
            best = one
    return best


def cards_left_out(cards: Iterable[NetworkCard], networks: Sequence[Network]) -> list[str]:
    """Return what the operator should know of the cards whose networks are not there: a new machine lacks them."""
    return [
        f"network card {number} was left out: there is no network {card.network!r} where the machine goes"
        for number, card in enumerate(cards, 1)
        if network_for(card, networks) is None
    ]


def _likeness(network: Network, card: NetworkCard) -> tuple[bool, bool]:
    return bool(network.switch) == bool(card.switch), network.switch == card.switch


def backing_of(network: Network) -> Any:
    """Return what puts a card into a network."""
    card = vim.vm.device.VirtualEthernetCard
    if not network.portgroup:
        return card.NetworkBackingInfo(deviceName=network.name, network=network.managed)
    port = vim.dvs.PortConnection(portgroupKey=network.portgroup, switchUuid=network.switch)
    return card.DistributedVirtualPortBackingInfo(port=port)
