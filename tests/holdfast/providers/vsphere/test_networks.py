"""Network cards come back to the network they were in, also to a portgroup of a distributed switch."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pyVmomi import vim

from holdfast.errors import RequestInvalid
from holdfast.model.machine import ANYWHERE, Disk, Machine, Placement
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.hardware import NetworkCard, hardware_in
from holdfast.providers.vsphere.networks import Network, network_for, networks_in
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import Client

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
CARD = vim.vm.device.VirtualEthernetCard


def card(network: str, portgroup: str = "", switch: str = "") -> NetworkCard:
    return NetworkCard(
        key=4000, kind="", network=network, mac="", is_connected=True, portgroup=portgroup, switch=switch
    )


PLAIN = Network(name="prod", managed=None)
FIRST = Network(name="prod", managed=None, portgroup="pg-1", switch="s1")
SECOND = Network(name="prod", managed=None, portgroup="pg-2", switch="s2")
OTHER = Network(name="lab", managed=None, portgroup="pg-1", switch="s3")
ALL = [OTHER, PLAIN, FIRST, SECOND]


@pytest.mark.parametrize(
    "captured, networks, expected",
    [
        (card("prod"), ALL, PLAIN),
        (card("prod"), [OTHER, SECOND], SECOND),
        (card("prod", "pg-2", "s2"), ALL, SECOND),
        (card("renamed", "pg-2", "s2"), ALL, SECOND),
        (card("prod", "pg-9", "s2"), ALL, SECOND),
        (card("prod", "pg-1", "s9"), ALL, FIRST),
        (card("prod", "pg-1", "s9"), [OTHER, PLAIN], PLAIN),
        (card("lab", "", "s1"), ALL, OTHER),
        (card("none", "pg-1", "s9"), ALL, None),
        (card(""), ALL, None),
    ],
)
def test_the_very_portgroup_is_taken_else_the_likeliest_of_the_name(
    captured: NetworkCard, networks: list[Network], expected: Network | None
) -> None:
    assert network_for(captured, networks) is expected


@pytest.fixture
def switch(vc: Client) -> Any:
    return vc.all(vim.DistributedVirtualSwitch)[0]


@pytest.fixture
def lab_network(vc: Client, switch: Any) -> Iterator[Any]:
    """Another portgroup of the switch, with a name that vSphere escapes."""
    spec = vim.dvs.DistributedVirtualPortgroup.ConfigSpec(name="lab%2f1", type="earlyBinding", numPorts=4)
    vc.wait(switch.AddDVPortgroup_Task([spec]))
    [made] = [one for one in switch.portgroup if "lab" in one.name]
    yield made
    vc.wait(made.Destroy_Task())


@pytest.fixture
def machine(bench: VSphereBench, switch: Any) -> Machine:
    """A machine with a card in a portgroup, and one in a network of hosts."""
    machine = bench.make_machine("web", [MIB])
    [group] = [one for one in switch.portgroup if one.name == "DC0_DVPG0"]
    port = vim.dvs.PortConnection(portgroupKey=group.key, switchUuid=switch.uuid)
    backings = [CARD.DistributedVirtualPortBackingInfo(port=port), CARD.NetworkBackingInfo(deviceName="VM Network")]
    connect = vim.vm.device.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=False)
    changes = [
        vim.vm.device.VirtualDeviceSpec(
            operation="add", device=vim.vm.device.VirtualVmxnet3(key=-50 - n, backing=backing, connectable=connect)
        )
        for n, backing in enumerate(backings)
    ]
    bench.client.reconfigure(bench.vm(machine.machine_id), deviceChange=changes)
    return machine


def captured(bench: VSphereBench, machine: Machine) -> Machine:
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    return taken.machine


def shape_named(machine: Machine, name: str) -> Machine:
    return msgspec.structs.replace(machine, name=name)


def restored(bench: VSphereBench, machine: Machine, placement: Placement) -> list[Any]:
    """Return the backings of the cards of a restored machine."""
    wanted = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks]
    target = bench.provider.prepare_target("token", shape_named(machine, "again"), wanted, None, placement)
    vm = bench.vm(bench.provider.commit_target(target.target_id).machine_id)
    return [device.backing for device in vm.config.hardware.device if isinstance(device, CARD)]


def test_a_portgroup_is_captured_by_key_switch_and_name(bench: VSphereBench, machine: Machine, switch: Any) -> None:
    in_portgroup, plain = hardware_in(captured(bench, machine).configuration).networks
    assert in_portgroup.network == "DC0_DVPG0"
    assert in_portgroup.switch == switch.uuid
    assert in_portgroup.portgroup in {group.key for group in switch.portgroup}
    assert (plain.network, plain.portgroup, plain.switch) == ("VM Network", "", "")


def test_cards_come_back_to_their_networks(bench: VSphereBench, machine: Machine, switch: Any) -> None:
    in_portgroup, plain = restored(bench, captured(bench, machine), ANYWHERE)
    [group] = [one for one in switch.portgroup if one.name == "DC0_DVPG0"]
    assert (in_portgroup.port.portgroupKey, in_portgroup.port.switchUuid) == (group.key, switch.uuid)
    assert plain.deviceName == "VM Network"


def test_a_card_goes_to_the_portgroup_that_is_wished(
    bench: VSphereBench, machine: Machine, switch: Any, lab_network: Any
) -> None:
    wish = Placement(networks={"DC0_DVPG0": "lab/1", "VM Network": "DC0_DVPG0"})
    first, second = restored(bench, captured(bench, machine), wish)
    assert (first.port.portgroupKey, first.port.switchUuid) == (lab_network.key, switch.uuid)
    assert second.port.switchUuid == switch.uuid
    assert second.port.portgroupKey != lab_network.key


def test_a_card_whose_network_is_not_there_is_left_out_and_told_of(bench: VSphereBench, machine: Machine) -> None:
    shape = captured(bench, machine)
    wish = Placement(networks={"DC0_DVPG0": "gone"})
    assert len(restored(bench, shape, wish)) == 1
    wanted = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in shape.disks]
    nowhere = Placement(networks={"DC0_DVPG0": "gone", "VM Network": "gone"})
    target = bench.provider.prepare_target("another", shape_named(shape, "third"), wanted, None, nowhere)
    assert target.notes == tuple(
        f"network card {number} was left out: there is no network 'gone' where the machine goes" for number in (1, 2)
    )
    assert bench.provider.targets() == [target]


def test_a_network_that_no_card_is_in_is_refused(bench: VSphereBench, machine: Machine) -> None:
    with pytest.raises(RequestInvalid, match="no card of the machine is in network 'prod'") as caught:
        restored(bench, captured(bench, machine), Placement(networks={"prod": "lab"}))
    assert caught.value.hint == "Its networks: DC0_DVPG0, VM Network."


def test_uplinks_are_no_networks_for_machines(bench: VSphereBench) -> None:
    [center] = bench.client.all(vim.Datacenter)
    with Connection(bench.settings.endpoint) as connection:
        names = {one.name for one in networks_in(connection, connection.reference(vim.Datacenter, center._moId))}
    assert {"VM Network", "DC0_DVPG0"} <= names
    assert not [name for name in names if "Uplinks" in name]
