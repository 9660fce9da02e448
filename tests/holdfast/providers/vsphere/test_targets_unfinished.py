"""A target whose preparation died in the middle is listed, so that whoever cleans up finds it."""

import pytest

from holdfast.errors import SnapshotFailed
from holdfast.model.machine import Disk
from holdfast.providers.checks import target_id_of
from tests.holdfast.providers.vsphere.bench import VSphereBench

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
