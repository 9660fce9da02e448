"""How much a run asks of a vCenter: it serves thousands of machines, and each call costs it work."""

from contextlib import ExitStack

import pytest

from holdfast.model.machine import Machine, Snapshot
from holdfast.model.spans import total_length
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import GRAIN, VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
CALLS_MAX = 10
OF_SESSIONS = ("RetrieveServiceContent", "Login", "Logout", "CurrentTime")


def test_a_run_of_a_machine_takes_few_calls_beside_its_tasks(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [4 * MIB, 8 * MIB])
    keeper, mover = bench.reconnect(), bench.reconnect()
    first = run(bench, keeper, mover, machine, None)
    for disk in machine.disks:
        bench.write_live(machine.machine_id, disk.key, GRAIN, b"x" * GRAIN)
    bench.client.control("DELETE", "/calls")
    run(bench, keeper, mover, machine, first)
    calls = calls_of(bench)
    assert sum(calls.values()) <= CALLS_MAX, calls


def test_processes_that_were_just_started_find_the_machine_with_one_call_more(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [4 * MIB, 8 * MIB])
    first = run(bench, bench.provider, bench.provider, machine, None)
    keeper, mover = bench.reconnect(), bench.reconnect()
    for disk in machine.disks:
        bench.write_live(machine.machine_id, disk.key, GRAIN, b"x" * GRAIN)
    bench.client.control("DELETE", "/calls")
    run(bench, keeper, mover, machine, first)
    calls = calls_of(bench)
    assert calls.pop("FindByUuid") == 1  # the first time a process meets a machine
    assert sum(calls.values()) <= CALLS_MAX, calls


def test_neighbours_on_a_datastore_cost_no_calls(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB])
    bench.provider.machine(machine.machine_id)
    bench.client.control("DELETE", "/calls")
    taken = bench.provider.create_snapshot(machine.machine_id, "one")
    alone = calls_of(bench)
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
    for number in range(5):
        bench.make_machine(f"neighbour {number}", [MIB])
    bench.client.control("DELETE", "/calls")
    bench.provider.create_snapshot(machine.machine_id, "two")
    assert calls_of(bench) == alone


def run(
    bench: VSphereBench, keeper: VSphereProvider, mover: VSphereProvider, machine: Machine, earlier: Snapshot | None
) -> Snapshot:
    """Do what a session does: one process freezes the machine and thaws it, another one reads its disks."""
    found = keeper.machine(machine.machine_id)
    taken = keeper.create_snapshot(found.machine_id, "tag")
    with ExitStack() as stack:
        for disk in taken.disks:
            opened = stack.enter_context(mover.open_disk(found.machine_id, taken.snapshot_id, disk.key))
            assert mover.disk_place(found.machine_id, taken.snapshot_id, disk.key) == opened.place
            then = None if earlier is None else earlier.disk(disk.key)
            if then is not None and then.change_id is not None:
                changed = mover.changed_spans(found.machine_id, taken.snapshot_id, disk.key, then.change_id)
                assert total_length(changed) == GRAIN
    [left] = keeper.snapshots(found.machine_id)
    keeper.remove_snapshot(found.machine_id, left.snapshot_id)
    return taken


def calls_of(bench: VSphereBench) -> dict[str, int]:
    """Return the calls since the last clearing that are neither of sessions nor of tasks."""
    counted = bench.client.control("GET", "/calls")
    return {name: count for name, count in counted.items() if is_of_budget(name)}


def is_of_budget(name: str) -> bool:
    return not name.endswith(("_Task", ":Task")) and name not in OF_SESSIONS
