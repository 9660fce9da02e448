"""What changed is what vSphere says, window by window; nonsense is no answer."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pyVmomi import vim

from holdfast.errors import AccessDenied, ChangeTrackingLost, HoldfastError, ProviderUnavailable, SnapshotNotFound
from holdfast.model.ids import ChangeId, DiskKey
from holdfast.model.machine import PowerState, Snapshot
from holdfast.model.spans import Span, coalesce, subtract
from holdfast.providers.vsphere.changes import ALLOCATED, FrozenDiskInVSphere, changed_areas
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.reading import allocated_areas
from holdfast.testing.provider_bench import MIB, Subject
from tests.holdfast.providers.vsphere.bench import GRAIN, VSphereBench

pytestmark = pytest.mark.vsphere

WINDOW = 2000
"""Areas that one answer of the vCenter holds at most."""
AREAS = 2 * WINDOW + 500


@pytest.fixture
def subject(bench: VSphereBench) -> Subject:
    return Subject(bench, "web", 4 * MIB)


def frozen(bench: VSphereBench, connection: Connection, taken: Snapshot) -> FrozenDiskInVSphere:
    """Name the first disk of a snapshot as the API does."""
    snapshot = connection.reference(vim.vm.Snapshot, taken.snapshot_id)
    return FrozenDiskInVSphere(
        connection=connection,
        machine=connection.reference(vim.VirtualMachine, bench.vm(taken.machine_id)._moId),
        snapshot=snapshot,
        facts=next(iter(disks_of(snapshot.config.hardware.device))),
    )


def since(taken: Snapshot) -> ChangeId:
    change_id = taken.disks[0].change_id
    assert change_id is not None
    return change_id


def scatter(bench: VSphereBench, subject: Subject, first: int, count: int) -> list[Span]:
    """Write a byte into every second block, and return the blocks."""
    blocks = [Span((first + 2 * index) * GRAIN, GRAIN) for index in range(count)]
    with bench.path(subject.machine_id, subject.key).open("r+b") as file:
        for block in blocks:
            file.seek(block.start + 100)
            file.write(b"x")
    return blocks


def test_many_small_writes_come_in_several_windows(bench: VSphereBench, connection: Connection) -> None:
    subject = Subject(bench, "scattered", 2 * AREAS * GRAIN)
    first = subject.snapshot("1")
    written = scatter(bench, subject, 0, AREAS)
    second = subject.snapshot("2")
    bench.client.control("DELETE", "/calls")
    assert list(changed_areas(frozen(bench, connection, second), since(first))) == written
    assert bench.client.control("GET", "/calls")["QueryChangedDiskAreas"] == 3


def test_a_star_lists_what_was_ever_written(bench: VSphereBench, connection: Connection, subject: Subject) -> None:
    subject.write(Span(GRAIN, 512))
    subject.snapshot("1")
    subject.write(Span(10 * GRAIN - 512, 1024))
    disk = frozen(bench, connection, subject.snapshot("2"))
    assert list(changed_areas(disk, ALLOCATED)) == [Span(GRAIN, GRAIN), Span(9 * GRAIN, 2 * GRAIN)]


def test_nothing_changed_on_a_disk_at_rest(bench: VSphereBench, connection: Connection, subject: Subject) -> None:
    first = subject.snapshot("1")
    assert list(changed_areas(frozen(bench, connection, subject.snapshot("2")), since(first))) == []


def power_loss(bench: VSphereBench, subject: Subject) -> None:
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    bench.client.control("POST", "/power-loss", {"machine": subject.machine.name})


def revert(bench: VSphereBench, subject: Subject) -> None:
    bench.client.wait(bench.vm(subject.machine_id).snapshot.currentSnapshot.RevertToSnapshot_Task())


def extension(bench: VSphereBench, subject: Subject) -> None:
    bench.client.wait(bench.vm(subject.machine_id).RemoveAllSnapshots_Task())
    bench.grow_disk(subject.machine_id, subject.key, 5 * MIB)


def tracking_off_and_on(bench: VSphereBench, subject: Subject) -> None:
    vm = bench.vm(subject.machine_id)
    bench.client.wait(vm.RemoveAllSnapshots_Task())
    bench.client.track_changes(vm, enabled=False)
    bench.client.remove(bench.client.snapshot(vm))
    bench.client.track_changes(vm)


@pytest.mark.parametrize("event", [power_loss, revert, extension, tracking_off_and_on])
def test_what_breaks_tracking_makes_old_ids_worthless(
    bench: VSphereBench, connection: Connection, subject: Subject, event: Callable[[VSphereBench, Subject], None]
) -> None:
    first = subject.snapshot("1")
    event(bench, subject)
    second = subject.snapshot("2")
    disk = frozen(bench, connection, second)
    with pytest.raises(ChangeTrackingLost, match="asking for the changes of disk"):
        list(changed_areas(disk, since(first)))
    with pytest.raises(ChangeTrackingLost):
        list(bench.provider.changed_spans(subject.machine_id, second.snapshot_id, subject.key, since(first)))
    assert list(changed_areas(disk, since(second))) == []


@pytest.mark.parametrize("change_id", ["", "1", "nonsense/1", "**"])
def test_an_id_that_is_none_is_worthless(
    bench: VSphereBench, connection: Connection, subject: Subject, change_id: str
) -> None:
    with pytest.raises(ChangeTrackingLost):
        list(changed_areas(frozen(bench, connection, subject.snapshot("1")), change_id))


class Talker:
    """In the place of a machine of a vCenter that says what it likes."""

    def __init__(self, *windows: tuple[int, int, list[tuple[int, int]] | None]) -> None:
        self.left = list(windows)

    def QueryChangedDiskAreas(self, **_: Any) -> Any:  # noqa: N802 - the API's name
        start, length, areas = self.left.pop(0)
        told = None if areas is None else [SimpleNamespace(start=at, length=size) for at, size in areas]
        return SimpleNamespace(startOffset=start, length=length, changedArea=told)


def talked(connection: Connection, *windows: tuple[int, int, list[tuple[int, int]] | None]) -> FrozenDiskInVSphere:
    facts = DiskFacts(key=DiskKey("2000"), label="Hard disk 1", size_bytes=1000, file="[ds] a/a.vmdk", change_id="id/2")
    return FrozenDiskInVSphere(
        connection=connection,
        machine=Talker(*windows),
        snapshot=SimpleNamespace(_moId="snapshot-1"),
        facts=facts,
    )


def told(connection: Connection, *windows: tuple[int, int, list[tuple[int, int]] | None]) -> list[Span]:
    return list(changed_areas(talked(connection, *windows), "id/1"))


def test_areas_are_sorted_and_windows_follow_each_other(connection: Connection) -> None:
    spans = told(connection, (0, 400, [(300, 100), (0, 10)]), (400, 100, None), (500, 500, [(990, 10)]))
    assert spans == [Span(0, 10), Span(300, 100), Span(990, 10)]


def test_a_run_over_the_end_of_a_window_is_one(connection: Connection) -> None:
    assert told(connection, (0, 500, [(300, 100), (400, 100)]), (500, 500, [(500, 10)])) == [Span(300, 210)]


@pytest.mark.parametrize(
    "window",
    [(100, 900, []), (-1, 1001, []), (0, 0, []), (0, -1, []), (0, 0, [(0, 10)])],
    ids=["later", "earlier", "empty", "negative", "empty-with-an-area"],
)
def test_another_window_than_the_next_is_nonsense(connection: Connection, window: tuple[int, int, Any]) -> None:
    with pytest.raises(ChangeTrackingLost, match="asked from offset 0, told about"):
        told(connection, window)


@pytest.mark.parametrize(
    "areas",
    [[(0, 20), (10, 20)], [(5, 5), (5, 5)], [(990, 11)], [(1000, 1)], [(-10, 20)], [(10, 0)], [(10, -5)]],
    ids=["overlapping", "twice", "over-the-end", "behind-the-end", "before-the-start", "empty", "negative"],
)
def test_an_impossible_area_is_nonsense(connection: Connection, areas: list[tuple[int, int]]) -> None:
    with pytest.raises(ChangeTrackingLost, match="told an impossible area of"):
        told(connection, (0, 1000, areas))


def test_a_window_that_repeats_areas_of_the_one_before_is_nonsense(connection: Connection) -> None:
    with pytest.raises(ChangeTrackingLost, match="told an impossible area of"):
        told(connection, (0, 500, [(400, 100)]), (500, 500, [(450, 100)]))


@pytest.mark.parametrize(
    "rule, kind",
    [
        ({"action": "drop"}, ProviderUnavailable),
        ({"action": "drop-after"}, ProviderUnavailable),
        ({"action": "fail", "fault": "SystemError"}, ProviderUnavailable),
        ({"action": "fail", "fault": "HostCommunication"}, ProviderUnavailable),
        ({"action": "fail", "fault": "NoPermission"}, AccessDenied),
        ({"action": "fail", "fault": "ManagedObjectNotFound"}, SnapshotNotFound),
        ({"action": "fail", "fault": "FileFault"}, ChangeTrackingLost),
        ({"action": "fail", "fault": "NotSupported"}, ChangeTrackingLost),
    ],
    ids=lambda value: value.get("fault", value["action"]) if isinstance(value, dict) else "",
)
def test_trouble_with_the_vcenter_says_nothing_about_tracking(
    bench: VSphereBench, connection: Connection, subject: Subject, rule: dict[str, Any], kind: type[HoldfastError]
) -> None:
    disk = frozen(bench, connection, subject.snapshot("1"))
    bench.client.control("POST", "/faults", {"method": "QueryChangedDiskAreas"} | rule)
    with pytest.raises(HoldfastError) as caught:
        list(changed_areas(disk, ALLOCATED))
    assert type(caught.value) is kind


WINDOWS = [(0, 300, [(20, 10), (100, 50)]), (300, 200, [(310, 10)]), (500, 100, None), (600, 400, [(900, 100)])]


@pytest.mark.parametrize("good", range(len(WINDOWS) + 1))
def test_behind_a_window_that_fails_everything_counts_as_written(connection: Connection, good: int) -> None:
    nonsense = (0, 0, None)
    remarks: list[str] = []
    disk = talked(connection, *WINDOWS[:good], nonsense)
    spans = list(coalesce(allocated_areas(disk, remarks.append)))
    wanted: dict[int, list[Span]] = {
        0: [Span(0, 1000)],
        1: [Span(20, 10), Span(30, 970)],
        2: [Span(20, 10), Span(100, 50), Span(150, 850)],
        3: [Span(20, 10), Span(100, 50), Span(150, 850)],
        4: [Span(20, 10), Span(100, 50), Span(310, 10), Span(900, 100)],
    }
    assert spans == list(coalesce(wanted[good]))
    if good in {0, len(WINDOWS)}:
        assert remarks == []
    else:
        [remark] = remarks
        assert remark.startswith(f"everything from offset {wanted[good][-1].start} on counts as written: asking for")


@pytest.mark.parametrize("at", [2, 3])
def test_a_later_question_that_fails_leaves_nothing_out(bench: VSphereBench, connection: Connection, at: int) -> None:
    subject = Subject(bench, "scattered", 2 * AREAS * GRAIN)
    written = scatter(bench, subject, 0, AREAS)
    disk = frozen(bench, connection, subject.snapshot("1"))
    rule = {"method": "QueryChangedDiskAreas", "action": "fail", "fault": "FileFault", "at": at}
    bench.client.control("POST", "/faults", rule)
    spans = list(allocated_areas(disk))
    assert not list(subtract(written, coalesce(spans)))
    assert spans[: (at - 1) * WINDOW - 1] == written[: (at - 1) * WINDOW - 1]
    assert spans[-1].end == subject.content.size_bytes
