"""A new machine keeps MAC addresses and uuid of the captured one where nobody else has them, and never otherwise."""

from typing import Any

import msgspec
import pytest
from pyVmomi import vim

from holdfast.errors import IdentityTaken, RequestInvalid
from holdfast.model.ids import DiskKey
from holdfast.model.machine import (
    ANYWHERE,
    AS_ANOTHER,
    Disk,
    Identifier,
    Identity,
    Machine,
    Placement,
    PowerState,
    RestoreTarget,
)
from holdfast.providers.vsphere.hardware import Hardware, NetworkCard, hardware_in
from holdfast.providers.vsphere.identity import Claim, changed, check_known, claim_of, is_reserved, network_of
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
CARD = vim.vm.device.VirtualEthernetCard
ADDRESSES = Placement(identity=Identity(mac_addresses=Identifier.KEEP))
UUID = Placement(identity=Identity(uuid=Identifier.KEEP))
BOTH = Placement(identity=Identity(mac_addresses=Identifier.KEEP, uuid=Identifier.KEEP))
ELSEWHERE = msgspec.structs.replace(ADDRESSES, networks={"VM Network": "DC0_DVPG0"})


def cards(vm: Any) -> list[Any]:
    return [device for device in vm.config.hardware.device if isinstance(device, CARD)]


def addresses(vm: Any) -> list[str]:
    return [card.macAddress for card in cards(vm)]


def a_card(mac: str | None, network: str = "VM Network") -> Any:
    device = vim.vm.device.VirtualVmxnet3(key=-50, backing=CARD.NetworkBackingInfo(deviceName=network))
    if mac is not None:
        device.addressType, device.macAddress = "manual", mac
    return device


def add_card(bench: VSphereBench, machine: Machine, mac: str | None = None, network: str = "VM Network") -> None:
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=a_card(mac, network))
    bench.client.reconfigure(bench.vm(machine.machine_id), deviceChange=[change])


def destroy(bench: VSphereBench, machine: Machine) -> None:
    bench.client.wait(bench.vm(machine.machine_id).Destroy_Task())


@pytest.fixture
def original(bench: VSphereBench) -> Machine:
    """A machine with a MAC address that hosts make and one of a card's maker, as a restore point has it."""
    machine = bench.make_machine("web", [MIB])
    add_card(bench, machine)
    add_card(bench, machine, "00:1B:21:00:00:01")
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    return taken.machine


def prepare(
    bench: VSphereBench, machine: Machine, placement: Placement, name: str = "again", token: str = ""
) -> RestoreTarget:
    disks = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks]
    return bench.provider.prepare_target(
        token or "token", msgspec.structs.replace(machine, name=name), disks, None, placement
    )


def test_a_new_machine_has_an_identity_of_its_own(bench: VSphereBench, original: Machine) -> None:
    hardware = hardware_in(original.configuration)
    made = bench.provider.commit_target(prepare(bench, original, ANYWHERE).target_id)
    vm = bench.vm(made.machine_id)
    assert vm.config.uuid != hardware.bios_uuid
    assert not {card.mac.lower() for card in hardware.networks} & {mac.lower() for mac in addresses(vm)}


def test_a_machine_that_is_lost_comes_back_as_its_guest_and_its_networks_know_it(
    bench: VSphereBench, original: Machine
) -> None:
    hardware = hardware_in(original.configuration)
    destroy(bench, original)
    target = prepare(bench, original, BOTH)
    assert target.notes == ()
    made = bench.provider.commit_target(target.target_id)
    vm = bench.vm(made.machine_id)
    assert vm.config.uuid == hardware.bios_uuid
    assert addresses(vm) == [card.mac for card in hardware.networks]
    assert made.machine_id != original.machine_id


def test_a_host_starts_a_machine_that_keeps_an_address_which_hosts_make(bench: VSphereBench, original: Machine) -> None:
    assert is_reserved(hardware_in(original.configuration).networks[0].mac.lower())
    destroy(bench, original)
    made = bench.provider.commit_target(prepare(bench, original, ADDRESSES).target_id)
    bench.provider.set_power(made.machine_id, PowerState.ON)
    options = {option.key: option.value for option in bench.vm(made.machine_id).config.extraConfig}
    assert options["ethernet0.checkMACAddress"] == "FALSE"
    assert "ethernet1.checkMACAddress" not in options


@pytest.mark.parametrize("placement, what", [(ADDRESSES, "MAC address"), (UUID, "uuid"), (BOTH, "uuid")])
def test_what_a_registered_machine_has_is_not_given_to_another(
    bench: VSphereBench, original: Machine, placement: Placement, what: str
) -> None:
    with pytest.raises(IdentityTaken, match=f"machine 'web' has the {what}"):
        prepare(bench, original, placement)
    assert bench.provider.targets() == []
    assert [machine.name for machine in bench.provider.machines()] == ["web"]


def test_two_restores_do_not_get_the_same_identity(bench: VSphereBench, original: Machine) -> None:
    destroy(bench, original)
    first = prepare(bench, original, BOTH)
    with pytest.raises(IdentityTaken, match=f"holdfast-restore-{first.target_id}"):
        prepare(bench, original, BOTH, "third", "another token")
    assert bench.provider.targets() == [first]


def test_in_another_network_an_address_is_kept_and_the_operator_told(bench: VSphereBench, original: Machine) -> None:
    target = prepare(bench, original, ELSEWHERE)
    macs = [card.mac.lower() for card in hardware_in(original.configuration).networks]
    assert target.notes == tuple(
        f"machine 'web' has the MAC address {mac} too, in another network: they must never be joined" for mac in macs
    )
    assert bench.provider.targets() == [target]
    assert prepare(bench, original, ELSEWHERE) == target
    made = bench.provider.commit_target(target.target_id)
    assert [mac.lower() for mac in addresses(bench.vm(made.machine_id))] == macs


def test_what_is_taken_while_the_disks_are_written_is_found_at_the_end(bench: VSphereBench, original: Machine) -> None:
    hardware = hardware_in(original.configuration)
    destroy(bench, original)
    target = prepare(bench, original, BOTH)
    other = bench.make_machine("other", [MIB])
    add_card(bench, other, hardware.networks[1].mac)
    with pytest.raises(IdentityTaken, match="machine 'other' has the MAC address 00:1b:21:00:00:01"):
        bench.provider.commit_target(target.target_id)
    assert bench.provider.targets() == [target]
    destroy(bench, other)
    assert bench.provider.commit_target(target.target_id).name == "again"


def test_disks_that_replace_others_leave_the_identity_of_their_machine_alone(
    bench: VSphereBench, original: Machine
) -> None:
    vm = bench.vm(original.machine_id)
    before = (vm.config.uuid, addresses(vm))
    target = bench.provider.prepare_target("token", original, original.disks, original.machine_id, BOTH)
    bench.provider.commit_target(target.target_id)
    vm = bench.vm(original.machine_id)
    assert (vm.config.uuid, addresses(vm)) == before


def test_what_was_not_captured_is_not_kept() -> None:
    check_known(AS_ANOTHER, Hardware())
    with pytest.raises(RequestInvalid, match="which uuid"):
        check_known(UUID.identity, Hardware())
    check_known(ADDRESSES.identity, Hardware())


@pytest.mark.parametrize("mac", ["", "00:50:56", "00-1b-21-00-00-01"])
def test_an_address_that_is_none_is_not_kept(mac: str) -> None:
    card = NetworkCard(key=4000, kind="", network="prod", mac=mac, is_connected=True)
    with pytest.raises(RequestInvalid, match="which MAC addresses"):
        check_known(ADDRESSES.identity, Hardware(networks=(card,)))


def test_a_point_of_another_hypervisor_has_no_uuid_to_keep(bench: VSphereBench) -> None:
    stranger = Machine(
        machine_id=bench.make_machine("web", [MIB]).machine_id,
        name="again",
        power=PowerState.OFF,
        disks=(Disk(key=DiskKey("boot"), size_bytes=MIB),),
    )
    with pytest.raises(RequestInvalid, match="which uuid"):
        prepare(bench, stranger, UUID)
    assert bench.provider.targets() == []


@pytest.mark.parametrize(
    "mac, expected",
    [
        ("00:0c:29:00:00:01", True),
        ("00:05:69:00:00:01", True),
        ("00:50:56:40:00:01", True),
        ("00:50:56:bf:00:01", True),
        ("00:50:56:3f:ff:ff", False),
        ("00:50:56:00:00:01", False),
        ("00:1b:21:00:00:01", False),
    ],
)
def test_hosts_and_vcenters_have_addresses_of_their_own(mac: str, expected: bool) -> None:
    assert is_reserved(mac) is expected


def test_two_cards_are_in_one_network_by_name_or_by_portgroup_and_switch() -> None:
    port = vim.dvs.PortConnection(portgroupKey="pg-1", switchUuid="s1")
    assert network_of(CARD.NetworkBackingInfo(deviceName="prod")) == "prod"
    assert network_of(CARD.DistributedVirtualPortBackingInfo(port=port)) == "s1/pg-1"
    assert network_of(CARD.OpaqueNetworkBackingInfo(opaqueNetworkId="id", opaqueNetworkType="nsx")) == "id"
    assert network_of(None) == ""


def test_what_the_vcenter_gave_instead_is_told() -> None:
    claim = claim_of(BOTH.identity, "A-1", [a_card("00:1B:21:00:00:01"), a_card(None)])
    assert claim == Claim(uuid="a-1", cards=(("00:1b:21:00:00:01", "VM Network"),))
    assert changed(claim, {"config.uuid": "a-1", "config.hardware.device": [a_card("00:1b:21:00:00:01")]}) == []
    assert changed(claim, {"config.uuid": "b", "config.hardware.device": [a_card("00:50:56:80:00:01")]}) == [
        "the vCenter gave the machine the uuid b instead of a-1",
        "the vCenter gave a network card another MAC address than 00:1b:21:00:00:01",
    ]
