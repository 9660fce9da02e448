"""What a reference to a group means is the same after the lab vCenter was started again."""

from pathlib import Path

import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.model.selection import Selector, SelectorKind
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import settings_of
from tests.holdfast.providers.vsphere.test_tags import Operator
from tests.lab.vcenter.running import lab_in, session_of
from workers.vcenter_lab import VCenterAddress, VCenterSettings

pytestmark = pytest.mark.vsphere

GROUPS = [
    Selector(kind=SelectorKind.FOLDER, value="/prod"),
    Selector(kind=SelectorKind.POOL, value="gold"),
    Selector(kind=SelectorKind.TAG, value="backup/daily"),
]


def members(address: VCenterAddress) -> list[list[str]]:
    with VSphereProvider(settings_of(address), SystemClock()) as provider:
        return [[machine.name for machine in provider.members(group)] for group in GROUPS]


def test_folders_pools_and_tags_mean_the_same_machines_after_a_restart(tmp_path: Path) -> None:
    with lab_in(tmp_path, VCenterSettings(machines=2, standalone_hosts=0, cluster_hosts=1)) as lab:
        with session_of(lab.start()) as vc:
            first, second = vc.machine("DC0_C0_RP0_VM0"), vc.machine("DC0_C0_RP0_VM1")
            vc.wait(first.parent.CreateFolder("prod").MoveIntoFolder_Task([first]))
            share = vim.ResourceAllocationInfo(
                reservation=0, limit=-1, expandableReservation=True, shares=vim.SharesInfo(level="normal", shares=0)
            )
            wanted = vim.ResourceConfigSpec(cpuAllocation=share, memoryAllocation=share)
            gold = second.resourcePool.CreateResourcePool(name="gold", spec=wanted)
            vc.wait(second.RelocateVM_Task(spec=vim.vm.RelocateSpec(pool=gold)))
            operator = Operator(vc)
            operator.tag("backup", "daily", first, second)
            operator.leave()
        before = members(lab.start())
        assert before == [["DC0_C0_RP0_VM0"], ["DC0_C0_RP0_VM1"], ["DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1"]]
        lab.kill()
        assert members(lab.start()) == before
