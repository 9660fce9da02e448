"""A target that died in its preparation, or is of a newer version, is listed, so that whoever cleans up finds it."""

import msgspec
import pytest

from activities.contracts.target import AbandonTarget
from activities.target import TargetActivities
from holdfast.clock import SystemClock
from holdfast.errors import DataDamaged, SnapshotFailed
from holdfast.model.ids import ProviderName
from holdfast.model.machine import Disk
from holdfast.providers.checks import target_id_of
from holdfast.providers.vsphere.labels import staging_name
from holdfast.providers.vsphere.target_state import STATE_KEY
from tests.activities.lab import run
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import vim

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


def test_an_unfinished_target_is_listed_and_can_be_abandoned(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    disks = tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks)
    rule = {"method": "ReconfigVM_Task", "at": 1, "times": 1, "action": "fail-task", "fault": "FileLocked"}
    bench.client.control("POST", "/faults", rule)
    with pytest.raises(SnapshotFailed):
        bench.provider.prepare_target("token", machine, disks, machine.machine_id)
    [target] = bench.provider.targets()
    assert target.target_id.startswith(target_id_of("token"))
    bench.provider.abandon_target(target.target_id)
    assert bench.provider.targets() == []
    assert [one.name for one in bench.provider.machines()] == ["web"]


def test_a_target_that_cannot_be_read_is_listed_and_stops_nobody_else(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    newer = bench.provider.prepare_target("newer", msgspec.structs.replace(machine, name="b"), machine.disks, None)
    usual = bench.provider.prepare_target("usual", msgspec.structs.replace(machine, name="c"), machine.disks, None)
    [holder] = [vm for vm in bench.client.all(vim.VirtualMachine) if vm.name == staging_name(newer.target_id)]
    state = vim.option.OptionValue(key=STATE_KEY, value='{"made_by": "a newer version"}')
    bench.client.reconfigure(holder, extraConfig=[state])
    assert {one.target_id for one in bench.provider.targets()} == {newer.target_id, usual.target_id}
    activities = TargetActivities(lambda _: bench.provider, SystemClock())
    undo = AbandonTarget(provider=ProviderName("vc"), token="", target_id=usual.target_id)
    assert run(activities.abandon_target, undo).removed
    with pytest.raises(DataDamaged, match=STATE_KEY):
        bench.provider.abandon_target(newer.target_id)
