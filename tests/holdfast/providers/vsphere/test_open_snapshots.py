"""Machines with snapshots of ours are found among all others, however deep in the tree they are."""

import pytest

from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.open_snapshots import machines_with_ours
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


def test_what_is_under_way_is_not_waited_for(bench: VSphereBench) -> None:
    machine = bench.make_machine("busy", [MIB])
    bench.provider.create_snapshot(machine.machine_id, "tag")
    rule = {"method": "RemoveSnapshot_Task", "at": 1, "times": 1, "action": "hang"}
    bench.client.control("POST", "/faults", rule)
    bench.vm(machine.machine_id).snapshot.currentSnapshot.RemoveSnapshot_Task(removeChildren=False)
    assert [one.tag for one in bench.reconnect().open_snapshots()] == ["tag"]


def test_snapshots_of_others_do_not_count_and_ours_below_them_do(bench: VSphereBench) -> None:
    ours, theirs = bench.make_machine("ours", [MIB]), bench.make_machine("theirs", [MIB])
    bench.make_machine("none", [MIB])
    for machine in (ours, theirs):
        bench.client.snapshot(bench.vm(machine.machine_id), "by hand")
    bench.provider.create_snapshot(ours.machine_id, "tag")
    with Connection(bench.settings.endpoint) as connection:
        assert list(machines_with_ours(connection)) == [ours.machine_id]
    assert [one.tag for one in bench.provider.open_snapshots()] == ["tag"]
