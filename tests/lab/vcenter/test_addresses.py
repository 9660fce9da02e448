"""MAC addresses of cards: what hosts accept as static ones, and what files say of them."""

from typing import Any

import pytest

from tests.lab.vcenter.client import Client, vim
from workers.vcenter_lab import VCenterLab

pytestmark = pytest.mark.vsphere

CARD = vim.vm.device.VirtualEthernetCard


@pytest.fixture
def vm(vc: Client) -> Any:
    """A machine that is off, with one card that nobody has configured."""
    made = vc.machine("DC0_H0_VM1")
    if made.runtime.powerState != "poweredOff":
        vc.wait(made.PowerOffVM_Task())
    return made


def card_of(vm: Any) -> Any:
    [card] = [device for device in vm.config.hardware.device if isinstance(device, CARD)]
    return card


def give(vc: Client, vm: Any, mac: str, *options: Any) -> None:
    card = card_of(vm)
    card.addressType, card.macAddress = "manual", mac
    change = vim.vm.device.VirtualDeviceSpec(operation="edit", device=card)
    vc.reconfigure(vm, deviceChange=[change], extraConfig=list(options))


def option(value: str) -> Any:
    return vim.option.OptionValue(key="ethernet0.checkMACAddress", value=value)


@pytest.mark.parametrize("mac", ["00:0c:29:01:02:03", "00:50:56:81:02:03"])
def test_a_static_address_that_hosts_make_themselves_needs_leave(vc: Client, vm: Any, mac: str) -> None:
    give(vc, vm, mac, option("TRUE"))
    with pytest.raises(vim.fault.GenericVmConfigFault, match="reserved"):
        vc.wait(vm.PowerOnVM_Task())
    give(vc, vm, mac, option("FALSE"))
    vc.wait(vm.PowerOnVM_Task())
    assert card_of(vm).macAddress == mac


@pytest.mark.parametrize("mac", ["00:50:56:01:02:03", "00:1b:21:01:02:03"])
def test_other_addresses_are_free(vc: Client, vm: Any, mac: str) -> None:
    give(vc, vm, mac, option("TRUE"))
    vc.wait(vm.PowerOnVM_Task())
    assert card_of(vm).macAddress == mac


def test_the_vmx_says_where_an_address_comes_from(vc: Client, lab: VCenterLab, vm: Any) -> None:
    give(vc, vm, "00:0c:29:01:02:03", option("FALSE"))
    store, _, name = vm.config.files.vmPathName.removeprefix("[").partition("] ")
    text = (lab.data / "datastores" / store / name).read_text()
    assert 'ethernet0.addressType = "static"' in text
    assert 'ethernet0.checkMACAddress = "FALSE"' in text
    path, pool, parent = vm.config.files.vmPathName, vm.resourcePool, vm.parent
    vm.UnregisterVM()
    again = vc.wait(parent.RegisterVM_Task(path=path, asTemplate=False, pool=pool))
    assert (card_of(again).addressType, card_of(again).macAddress) == ("manual", "00:0c:29:01:02:03")
    vc.wait(again.PowerOnVM_Task())
