"""Sessions that make a machine with the identity of another: refused while that is there, kept when it is lost."""

from typing import Any

import pytest

from holdfast.errors import IdentityTaken
from holdfast.model.machine import Identifier, Identity, Placement, PowerState
from holdfast.model.session import Outcome
from tests.lab.vcenter.client import vim
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

CARD = vim.vm.device.VirtualEthernetCard
KEPT = Identity(mac_addresses=Identifier.KEEP, uuid=Identifier.KEEP)


def identity_of(vm: Any) -> tuple[str, list[str]]:
    config = vm.config
    return config.uuid, [device.macAddress for device in config.hardware.device if isinstance(device, CARD)]


async def test_a_lost_machine_comes_back_as_it_was_known_and_not_before_it_is_lost(stage: Stage) -> None:
    machine = stage.machine("known")
    card = vim.vm.device.VirtualVmxnet3(key=-50, backing=CARD.NetworkBackingInfo(deviceName="VM Network"))
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=card)
    stage.vc.reconfigure(stage.vm(machine), deviceChange=[change])
    await stage.run(stage.backup(machine))
    before, content, files = identity_of(stage.vm(machine)), stage.content(machine), stage.files()
    wish: dict[str, Any] = {"new_name": "known-again", "placement": Placement(identity=KEPT), "power": PowerState.ON}
    error = await stage.failure(stage.restore(machine, **wish))
    assert isinstance(error, IdentityTaken)
    assert "machine 'known' has the uuid" in error.message
    stage.expect_nothing_left(files)
    stage.switch_off(machine)
    stage.vc.wait(stage.vm(machine).Destroy_Task())
    result = await stage.run(stage.restore(machine, **wish))
    assert result.session.outcome is Outcome.SUCCESS, result.session.notes
    again = stage.named("known-again")
    assert (again.power, stage.content(again)) == (PowerState.ON, content)
    assert identity_of(stage.vm(again)) == before
    assert again.machine_id != machine.machine_id
    await stage.expect_sound(again)


async def test_a_trial_in_another_network_keeps_addresses_with_a_warning(stage: Stage) -> None:
    machine = stage.machine("tried")
    card = vim.vm.device.VirtualVmxnet3(key=-50, backing=CARD.NetworkBackingInfo(deviceName="VM Network"))
    change = vim.vm.device.VirtualDeviceSpec(operation="add", device=card)
    stage.vc.reconfigure(stage.vm(machine), deviceChange=[change])
    await stage.run(stage.backup(machine))
    placement = Placement(identity=Identity(mac_addresses=Identifier.KEEP), networks={"VM Network": "DC0_DVPG0"})
    result = await stage.run(stage.restore(machine, new_name="trial", placement=placement))
    assert result.session.outcome is Outcome.WARNING
    [note] = result.session.notes
    assert note.startswith("machine 'tried' has the MAC address ")
    assert identity_of(stage.vm(stage.named("trial")))[1] == identity_of(stage.vm(machine))[1]
