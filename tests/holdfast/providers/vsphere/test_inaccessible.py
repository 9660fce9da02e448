"""A machine whose storage is away is there, and is neither left out in silence nor taken for gone."""

from collections.abc import Iterator

import pytest

from activities.contracts.snapshot import FindMachines, MachinesFound, RemoveSnapshot, SnapshotRemoved
from activities.snapshot import SnapshotActivities
from holdfast.clock import SystemClock
from holdfast.errors import MachineInaccessible, MachineNotFound
from holdfast.model.ids import ProviderName
from holdfast.model.machine import Machine
from holdfast.testing.provider_bench import MIB
from tests.activities.lab import failure, run
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

PROVIDER = ProviderName("vc")


@pytest.fixture
def lost(bench: VSphereBench) -> Iterator[Machine]:
    yield bench.make_machine("lost", [MIB])
    bench.client.control("DELETE", "/inaccessible")


@pytest.fixture
def activities(bench: VSphereBench) -> SnapshotActivities:
    return SnapshotActivities(lambda _: bench.provider, SystemClock())


def take_away(bench: VSphereBench, machine: Machine, *, summary: bool) -> None:
    bench.client.control("POST", "/inaccessible", {"machine": machine.name, "summary": summary})


def found(activities: SnapshotActivities, *references: str) -> MachinesFound:
    return run(activities.find_machines, FindMachines(provider=PROVIDER, references=references))


@pytest.mark.parametrize("references", [(), ("folder:/DC0/vm",), ("lost", "web")])
def test_it_is_among_the_machines_without_disks_so_that_it_counts_as_tried(
    bench: VSphereBench, activities: SnapshotActivities, lost: Machine, references: tuple[str, ...]
) -> None:
    web = bench.make_machine("web", [MIB])
    take_away(bench, lost, summary=True)
    machines = {machine.name: machine for machine in found(activities, *references).machines}
    assert machines["web"] == web
    assert (machines["lost"].machine_id, machines["lost"].disks) == (lost.machine_id, ())
    assert "inaccessible" in machines["lost"].skipped[0].reason


@pytest.mark.parametrize("references", [(), ("folder:/DC0/vm",), ("lost", "web")])
def test_one_of_which_only_the_name_is_known_is_a_problem_and_hides_no_other(
    bench: VSphereBench, activities: SnapshotActivities, lost: Machine, references: tuple[str, ...]
) -> None:
    web = bench.make_machine("web", [MIB])
    take_away(bench, lost, summary=False)
    answer = found(activities, *references)
    assert (answer.machines, answer.missing) == ((web,), ())
    assert len(answer.problems) == 1
    assert "lost" in answer.problems[0]


def test_nothing_is_done_to_it_and_whoever_asks_is_told_to_wait(bench: VSphereBench, lost: Machine) -> None:
    take_away(bench, lost, summary=True)
    with pytest.raises(MachineInaccessible, match=r"'lost'.*is inaccessible"):
        bench.provider.create_snapshot(lost.machine_id, "tag")
    assert MachineInaccessible.retryable


def test_its_snapshot_is_waited_for_and_not_taken_for_gone(
    bench: VSphereBench, activities: SnapshotActivities, lost: Machine
) -> None:
    bench.provider.create_snapshot(lost.machine_id, "tag")
    removal = RemoveSnapshot(provider=PROVIDER, machine_id=lost.machine_id, tag="tag")
    take_away(bench, lost, summary=False)
    failure(MachineInaccessible, activities.remove_snapshot, removal)
    bench.client.control("DELETE", "/inaccessible")
    assert run(activities.remove_snapshot, removal) == SnapshotRemoved(removed=1)
    assert bench.provider.snapshots(lost.machine_id) == []


def test_a_machine_that_is_gone_is_still_no_machine(
    bench: VSphereBench, activities: SnapshotActivities, lost: Machine
) -> None:
    bench.clear()
    with pytest.raises(MachineNotFound):
        bench.provider.machine(lost.machine_id)
    removal = RemoveSnapshot(provider=PROVIDER, machine_id=lost.machine_id, tag="tag")
    assert run(activities.remove_snapshot, removal) == SnapshotRemoved(removed=0)
