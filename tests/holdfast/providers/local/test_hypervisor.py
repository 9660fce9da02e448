"""The provider as a whole: its folder may vanish, and several of its users may meet."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError, ProviderUnavailable, QuiesceFailed, RequestInvalid, SnapshotNotFound
from holdfast.model.ids import ChangeId, DiskKey, SnapshotId, TargetId
from holdfast.model.machine import PowerState, Quiesce, SnapshotOptions
from holdfast.model.plan import TransportMode
from holdfast.model.selection import Selector, SelectorKind
from holdfast.model.spans import Span
from holdfast.providers.local import freezing
from holdfast.providers.local.cloning import copy_sparse
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_bench import Subject
from tests.holdfast.providers.local.bench import LocalBench

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.providers.ports import Provider

MIB = 1 << 20


def test_it_is_a_provider(bench: LocalBench) -> None:
    provider: Provider = bench.provider
    assert list(provider.machines()) == []


def test_a_vanished_folder_never_looks_empty(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    machine_id, machine, provider = subject.machine_id, subject.machine, bench.provider
    snapshot_id = subject.snapshot("tag").snapshot_id
    bench.root.rename(bench.root.with_name("elsewhere"))
    bench.root.mkdir()  # what an unmounted folder looks like
    calls: list[Callable[[], object]] = [
        lambda: list(provider.machines()),
        lambda: provider.machine("web"),
        lambda: provider.set_power(machine_id, PowerState.ON),
        lambda: provider.create_snapshot(machine_id, "tag"),
        lambda: provider.snapshots(machine_id),
        lambda: provider.remove_snapshot(machine_id, snapshot_id),
        lambda: provider.open_disk(machine_id, snapshot_id, subject.key),
        lambda: provider.changed_spans(machine_id, snapshot_id, subject.key, ChangeId("x")),
        lambda: provider.prepare_target("token", machine, machine.disks, None),
        lambda: provider.open_target(TargetId("0" * 32), subject.key),
        lambda: provider.commit_target(TargetId("0" * 32)),
        lambda: provider.abandon_target(TargetId("0" * 32)),
        provider.targets,
        provider.sweep,
        lambda: provider.add_machine("new", {}),
    ]
    for call in calls:
        with pytest.raises(ProviderUnavailable, match="is not there"):
            call()
    assert list(bench.root.iterdir()) == []


def test_the_way_to_a_disk_is_known_before_it_is_opened(bench: LocalBench) -> None:
    machine = bench.make_machine("web", [4096, 8192])
    provider = LocalProvider(bench.root, SystemClock())
    first, second = machine.disks
    assert [(way.disk, way.mode) for way in provider.ways(machine.machine_id)] == [
        (first.key, TransportMode.DIRECT),
        (second.key, TransportMode.DIRECT),
    ]
    provider.disk_paths(machine.machine_id)[second.key].unlink()
    lost = provider.ways(machine.machine_id)[1]
    assert lost.mode is None
    assert "cannot be read on this host" in lost.reason


def test_a_provider_can_be_made_before_its_folder_is_there(tmp_path: Path) -> None:
    provider = LocalProvider(tmp_path / "later", SystemClock())
    with pytest.raises(ProviderUnavailable):
        provider.machines()
    LocalProvider.create(tmp_path / "later", SystemClock())
    assert list(provider.machines()) == []


def test_a_snapshot_gone_with_the_mount_is_not_a_removed_one(
    bench: LocalBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject(bench, "web", MIB)
    snapshot_id = subject.snapshot("tag").snapshot_id

    def vanish(*_: object) -> object:
        shutil.rmtree(bench.root)
        raise SnapshotNotFound("the folder of the snapshot is not there")

    monkeypatch.setattr("holdfast.providers.local.snapshots.SnapshotStore.open_disk", vanish)
    with pytest.raises(ProviderUnavailable):
        bench.provider.open_disk(subject.machine_id, snapshot_id, subject.key)


@pytest.mark.parametrize(
    "quiesce, power, notes",
    [
        (Quiesce.NEVER, PowerState.ON, ()),
        (Quiesce.TRY, PowerState.OFF, ()),
        (Quiesce.TRY, PowerState.ON, ("crash-consistent: the local provider cannot quiesce guests",)),
        (Quiesce.REQUIRE, PowerState.OFF, ()),
    ],
)
def test_a_snapshot_notes_that_a_running_guest_cannot_be_asked_to_rest(
    bench: LocalBench, quiesce: Quiesce, power: PowerState, notes: tuple[str, ...]
) -> None:
    subject = Subject(bench, "web", MIB)
    bench.provider.set_power(subject.machine_id, power)
    made = bench.provider.create_snapshot(subject.machine_id, "tag", SnapshotOptions(quiesce=quiesce))
    assert made.notes == notes
    assert bench.reconnect().snapshots(subject.machine_id) == [made]
    assert bench.provider.create_snapshot(subject.machine_id, "tag", SnapshotOptions(quiesce=quiesce)) == made


def test_a_running_guest_that_has_to_rest_is_not_frozen(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    bench.provider.set_power(subject.machine_id, PowerState.ON)
    with pytest.raises(QuiesceFailed, match="machine 'web' runs"):
        bench.provider.create_snapshot(subject.machine_id, "tag", SnapshotOptions(quiesce=Quiesce.REQUIRE))
    assert bench.provider.snapshots(subject.machine_id) == []


@pytest.mark.parametrize("kind", [kind for kind in SelectorKind if kind is not SelectorKind.MACHINE])
def test_it_has_no_groups(bench: LocalBench, kind: SelectorKind) -> None:
    with pytest.raises(RequestInvalid, match=f"has no {kind.value}s"):
        bench.provider.members(Selector(kind=kind, value="x"))


def test_a_removed_snapshot_is_not_found_by_either_reader(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    snapshot = subject.snapshot("tag")
    bench.provider.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
    with pytest.raises(SnapshotNotFound):
        bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
    with pytest.raises(SnapshotNotFound):
        bench.provider.changed_spans(subject.machine_id, SnapshotId("x"), subject.key, ChangeId("x"))


def test_one_tag_gives_one_snapshot_to_all_who_ask_at_once(bench: LocalBench) -> None:
    subject = Subject(bench, "web", 4 * MIB)
    subject.write(Span(0, 4 * MIB))
    providers = [LocalProvider(bench.root, SystemClock()) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda p: p.create_snapshot(subject.machine_id, "tag"), providers))
    assert all(snapshot == made[0] for snapshot in made)
    assert bench.provider.snapshots(subject.machine_id) == made[:1]


def test_one_name_makes_one_machine_for_all_who_ask_at_once(bench: LocalBench) -> None:
    providers = [LocalProvider(bench.root, SystemClock()) for _ in range(4)]

    def add(provider: LocalProvider) -> str:
        try:
            return provider.add_machine("web", {}).machine_id
        except HoldfastError as error:
            return error.code

    with ThreadPoolExecutor(4) as threads:
        answers = sorted(threads.map(add, providers))
    assert answers.count("target-exists") == 3
    assert len(list(bench.provider.machines())) == 1


def test_machines_do_not_wait_for_each_other(bench: LocalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, fast = Subject(bench, "slow", MIB), Subject(bench, "fast", MIB)
    slow_path = bench.path(slow.machine_id, slow.key)
    copying, go_on = threading.Event(), threading.Event()

    def copy(source: int, target: int) -> None:
        if slow_path.samefile(f"/proc/self/fd/{source}"):
            copying.set()
            assert go_on.wait(30)
        copy_sparse(source, target)

    monkeypatch.setattr(freezing, "reflink", lambda *_: False)
    monkeypatch.setattr(freezing, "copy_sparse", copy)
    with ThreadPoolExecutor(1) as threads:
        pending = threads.submit(slow.snapshot, "tag")
        assert copying.wait(30)
        fast.snapshot("tag")
        bench.provider.set_power(fast.machine_id, PowerState.ON)
        assert not pending.done()
        go_on.set()
        assert pending.result().machine_id == slow.machine_id


def test_a_disk_in_the_folder_and_one_elsewhere_make_one_machine(bench: LocalBench, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.raw").write_bytes(b"x" * 512)
    machine = bench.make_machine("web", [MIB])
    bench.remove_disk(machine.machine_id, machine.disks[0].key)
    made = bench.provider.add_machine("both", {DiskKey("a"): tmp_path / "elsewhere.raw"})
    bench.add_disk(made.machine_id, MIB)
    snapshot = bench.provider.create_snapshot(made.machine_id, "tag")
    assert [(disk.key, disk.size_bytes) for disk in snapshot.disks] == [("a", 512), ("added", MIB)]
