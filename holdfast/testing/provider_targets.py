"""Conformance: restore targets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from holdfast.errors import (
    ChangeTrackingLost,
    DiskNotFound,
    DiskReadFailed,
    DiskWriteFailed,
    MachineNotFound,
    MachineRunning,
    RequestInvalid,
    TargetExists,
)
from holdfast.model.ids import DiskKey, MachineId, TargetId
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget
from holdfast.model.spans import Span
from holdfast.pipeline.disks import DiskWriter
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.provider_bench import (
    MIB,
    ProviderBench,
    Subject,
    assert_covered,
    assert_same,
    raises,
    read,
    read_all,
)

_THREADS = 4
_SECTOR = 512


class TargetConformance:
    """Places a restore writes to."""

    def test_a_new_target_is_empty_and_takes_what_is_written(self, bench: ProviderBench) -> None:
        """Before the first write it reads as zeros; afterwards it reads as written."""
        target, content = _prepare(bench, "new"), PatternedDisk(bench.seed, 4 * MIB)
        with bench.provider.open_target(target.target_id, DiskKey("a")) as disk:
            assert disk.size_bytes == 4 * MIB
            assert_same(content, read_all(disk), "empty target")
            _write(disk, content, Span(0, 2 * MIB))
            _write(disk, content, Span(4 * MIB - _SECTOR, _SECTOR))
            content.zero(Span(MIB, 65536))
            disk.write_zeros(Span(MIB, 65536))
            content.zero(Span(_SECTOR, _SECTOR))
            disk.write_zeros(Span(_SECTOR, _SECTOR))
            disk.write_zeros(Span(0, 0))
            disk.flush()
            assert_same(content, read_all(disk), "written target")

    def test_the_same_token_keeps_what_was_written(self, bench: ProviderBench) -> None:
        """Also for a process that was started again."""
        target, content = _prepare(bench, "new"), PatternedDisk(bench.seed, 4 * MIB)
        with bench.provider.open_target(target.target_id, DiskKey("a")) as disk:
            _write(disk, content, Span(MIB, MIB))
            disk.flush()
        again = bench.reconnect().prepare_target("token new", _machine("new"), _DISKS, None)
        assert again == target
        assert bench.provider.targets() == [target]
        with bench.reconnect().open_target(target.target_id, DiskKey("a")) as disk:
            assert_same(content, read_all(disk), "target of the first attempt")

    def test_one_token_cannot_stand_for_two_requests(self, bench: ProviderBench) -> None:
        """A different name or different disks are refused."""
        _prepare(bench, "new")
        with raises(RequestInvalid):
            bench.provider.prepare_target("token new", _machine("newer"), _DISKS, None)
        with raises(RequestInvalid):
            bench.provider.prepare_target("token new", _machine("new"), _DISKS[:1], None)

    def test_several_threads_may_write_one_disk(self, bench: ProviderBench) -> None:
        """Each run of bytes lands in its place."""
        target, content = _prepare(bench, "new"), PatternedDisk(bench.seed, 4 * MIB)
        spans = [Span(at, 65536) for at in range(0, 4 * MIB, 65536)]
        pieces = [(span, content.write(span)) for span in spans]
        with (
            bench.provider.open_target(target.target_id, DiskKey("a")) as disk,
            ThreadPoolExecutor(_THREADS) as threads,
        ):
            for written in [threads.submit(_put, disk, *piece) for piece in pieces]:
                written.result()
            disk.flush()
            assert_same(content, read_all(disk), "target written by threads")

    def test_nothing_is_written_or_read_behind_the_end(self, bench: ProviderBench) -> None:
        """The disk keeps its size."""
        target = _prepare(bench, "new")
        with bench.provider.open_target(target.target_id, DiskKey("a")) as disk:
            for offset in (4 * MIB, 4 * MIB - 1, -1):
                with raises(DiskWriteFailed):
                    disk.write(offset, memoryview(b"xy"))
            with raises(DiskWriteFailed):
                disk.write_zeros(Span(4 * MIB - _SECTOR, 2 * _SECTOR))
            with raises(DiskReadFailed):
                read(disk, Span(4 * MIB - 1, 2))
            assert disk.size_bytes == 4 * MIB

    def test_a_closed_target_disk_takes_nothing(self, bench: ProviderBench) -> None:
        """Closing twice does no harm."""
        target = _prepare(bench, "new")
        disk = bench.provider.open_target(target.target_id, DiskKey("a"))
        disk.close()
        disk.close()
        with raises(DiskWriteFailed):
            disk.write(0, memoryview(b"x"))
        with raises(DiskWriteFailed):
            disk.flush()

    def test_unknown_targets_and_disks_are_refused(self, bench: ProviderBench) -> None:
        """Abandoning one is no fault."""
        target = _prepare(bench, "new")
        unknown = TargetId("0" * 32)
        with raises(DiskNotFound):
            bench.provider.open_target(target.target_id, DiskKey("none"))
        with raises(RequestInvalid):
            bench.provider.open_target(unknown, DiskKey("a"))
        with raises(RequestInvalid):
            bench.provider.commit_target(unknown)
        bench.provider.abandon_target(unknown)

    def test_a_new_machine_appears_only_with_the_commit(self, bench: ProviderBench) -> None:
        """It is off, and its disks hold what was restored, in the order of the request."""
        target, content = _prepare(bench, "new"), PatternedDisk(bench.seed, 4 * MIB)
        with bench.provider.open_target(target.target_id, DiskKey("a")) as disk:
            _write(disk, content, Span(MIB, 2 * MIB))
            disk.flush()
        assert list(bench.provider.machines()) == []
        made = bench.provider.commit_target(target.target_id)
        assert made.name == "new"
        assert made.power is PowerState.OFF
        # The keys are the provider's own: the machine may come from another one.
        assert [disk.size_bytes for disk in made.disks] == [disk.size_bytes for disk in _DISKS]
        assert bench.reconnect().machine("new") == made
        first, second = (disk.key for disk in made.disks)
        assert_same(content, bench.read_live(made.machine_id, first), "restored disk")
        assert bench.read_live(made.machine_id, second) == bytes(MIB)

    def test_a_commit_can_be_repeated(self, bench: ProviderBench) -> None:
        """It gives the same machine, also to another process; the target is not pending any more."""
        target = _prepare(bench, "new")
        made = bench.provider.commit_target(target.target_id)
        assert bench.provider.commit_target(target.target_id) == made
        assert bench.reconnect().commit_target(target.target_id) == made
        assert [machine.name for machine in bench.provider.machines()] == ["new"]
        assert bench.provider.targets() == []

    def test_abandoning_after_the_commit_changes_nothing(self, bench: ProviderBench) -> None:
        """The machine stays."""
        target = _prepare(bench, "new")
        made = bench.provider.commit_target(target.target_id)
        bench.provider.abandon_target(target.target_id)
        assert bench.provider.machine("new") == made
        assert bench.provider.commit_target(target.target_id) == made

    def test_a_restored_machine_can_be_frozen(self, bench: ProviderBench) -> None:
        """It is a machine like any other."""
        target, content = _prepare(bench, "new"), PatternedDisk(bench.seed, 4 * MIB)
        with bench.provider.open_target(target.target_id, DiskKey("a")) as disk:
            _write(disk, content, Span(0, MIB))
            disk.flush()
        made = bench.provider.commit_target(target.target_id)
        snapshot = bench.provider.create_snapshot(made.machine_id, "tag")
        with bench.provider.open_disk(made.machine_id, snapshot.snapshot_id, made.disks[0].key) as frozen:
            assert_same(content, read_all(frozen), "frozen disk of the restored machine")

    def test_a_taken_name_is_refused(self, bench: ProviderBench) -> None:
        """At once, and at the commit when the name was taken meanwhile; the target then stays."""
        bench.make_machine("web", [MIB])
        with raises(TargetExists):
            _prepare(bench, "web")
        target = _prepare(bench, "late")
        bench.make_machine("late", [MIB])
        with raises(TargetExists):
            bench.provider.commit_target(target.target_id)
        assert bench.provider.targets() == [target]

    def test_abandoned_targets_are_gone(self, bench: ProviderBench) -> None:
        """Their token can be used again and then gives empty disks."""
        target, content = _prepare(bench, "new"), PatternedDisk(bench.seed, 4 * MIB)
        with bench.provider.open_target(target.target_id, DiskKey("a")) as disk:
            _write(disk, content, Span(0, MIB))
        for _ in range(2):
            bench.provider.abandon_target(target.target_id)
        assert bench.provider.targets() == []
        assert list(bench.provider.machines()) == []
        with raises(RequestInvalid):
            bench.provider.open_target(target.target_id, DiskKey("a"))
        again = _prepare(bench, "new")
        with bench.provider.open_target(again.target_id, DiskKey("a")) as disk:
            assert read_all(disk) == bytes(4 * MIB)

    def test_pending_targets_are_listed(self, bench: ProviderBench) -> None:
        """Also to another process."""
        made = [_prepare(bench, "one"), _prepare(bench, "two")]
        found = bench.reconnect().targets()
        assert sorted(t.target_id for t in found) == sorted(t.target_id for t in made)

    def test_replacing_changes_only_the_restored_disks(self, bench: ProviderBench) -> None:
        """Nothing is seen before the commit; the machine keeps its id, name and other disks."""
        subject = Subject(bench, "web", 2 * MIB, 2 * MIB, 2 * MIB)
        for key in subject.keys:
            subject.write(Span(0, MIB), key)
        replaced = subject.keys[1]
        target = _prepare_replacing(bench, subject, [Disk(key=replaced, size_bytes=2 * MIB)])
        content = PatternedDisk(bench.seed + 50, 2 * MIB)
        with bench.provider.open_target(target.target_id, replaced) as disk:
            _write(disk, content, Span(512, MIB))
            disk.flush()
        subject.assert_live()
        committed = bench.provider.commit_target(target.target_id)
        assert committed == subject.machine
        subject.contents[replaced] = content
        subject.assert_live()
        assert bench.reconnect().commit_target(target.target_id) == committed
        subject.assert_live()
        assert bench.provider.targets() == []

    def test_a_replaced_disk_may_have_another_size(self, bench: ProviderBench) -> None:
        """Larger and smaller."""
        subject = Subject(bench, "web", 2 * MIB, 4 * MIB)
        sizes = dict(zip(subject.keys, (4 * MIB, 2 * MIB), strict=True))
        disks = [Disk(key=key, size_bytes=size) for key, size in sizes.items()]
        target = _prepare_replacing(bench, subject, disks)
        for key, size in sizes.items():
            subject.contents[key] = PatternedDisk(bench.seed + 60, size)
            with bench.provider.open_target(target.target_id, key) as disk:
                _write(disk, subject.contents[key], Span(size - MIB, MIB))
                disk.flush()
        assert bench.provider.commit_target(target.target_id).disks == tuple(disks)
        subject.assert_live()

    def test_a_disk_that_the_machine_lost_comes_back(self, bench: ProviderBench) -> None:
        """A restored disk whose key the machine does not have is added to it."""
        subject = Subject(bench, "web", 2 * MIB, 2 * MIB)
        lost = subject.keys[1]
        bench.remove_disk(subject.machine_id, lost)
        target = _prepare_replacing(bench, subject, [Disk(key=lost, size_bytes=2 * MIB)])
        subject.contents[lost] = PatternedDisk(bench.seed + 70, 2 * MIB)
        with bench.provider.open_target(target.target_id, lost) as disk:
            _write(disk, subject.contents[lost], Span(0, MIB))
            disk.flush()
        committed = bench.provider.commit_target(target.target_id)
        assert {disk.key for disk in committed.disks} == set(subject.keys)
        subject.assert_live()

    def test_a_disk_is_added_beside_those_of_a_machine(self, bench: ProviderBench) -> None:
        """A key that no provider gives by itself takes the place of no disk; the others keep their content."""
        subject = Subject(bench, "web", 2 * MIB, 2 * MIB)
        for key in subject.keys:
            subject.write(Span(0, MIB), key)
        foreign = DiskKey(f"{subject.key} of another machine")
        target = _prepare_replacing(bench, subject, [Disk(key=foreign, size_bytes=4 * MIB)])
        content = PatternedDisk(bench.seed + 80, 4 * MIB)
        with bench.provider.open_target(target.target_id, foreign) as disk:
            _write(disk, content, Span(MIB, MIB))
            disk.flush()
        committed = bench.provider.commit_target(target.target_id)
        [added] = [disk for disk in committed.disks if disk.key not in subject.keys]
        assert added.size_bytes == 4 * MIB
        assert {disk.key for disk in committed.disks} > set(subject.keys)
        subject.assert_live()
        assert_same(content, bench.read_live(subject.machine_id, added.key), "added disk")

    def test_changes_by_a_restore_are_tracked_or_lost(self, bench: ProviderBench) -> None:
        """The next increment must not miss that the disk went back in time."""
        subject = Subject(bench, "web", 2 * MIB)
        subject.write(Span(0, 2 * MIB))
        first = subject.snapshot("first")
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        disk = Disk(key=subject.key, size_bytes=2 * MIB)
        target = _prepare_replacing(bench, subject, [disk])
        bench.provider.commit_target(target.target_id)
        second = subject.snapshot("second")
        since = first.disks[0].change_id
        if since is not None and second.disks[0].change_id is not None:
            try:
                spans = list(bench.provider.changed_spans(subject.machine_id, second.snapshot_id, subject.key, since))
            except ChangeTrackingLost:
                return  # the disk is another one now
            assert_covered([Span(0, 2 * MIB)], spans, "changed spans")

    def test_a_running_machine_is_not_replaced(self, bench: ProviderBench) -> None:
        """Refused when the target is prepared and again at the commit; off, it goes through."""
        subject = Subject(bench, "web", 2 * MIB)
        subject.write(Span(0, MIB))
        disks = [Disk(key=subject.key, size_bytes=2 * MIB)]
        bench.provider.set_power(subject.machine_id, PowerState.ON)
        with raises(MachineRunning):
            _prepare_replacing(bench, subject, disks)
        bench.provider.set_power(subject.machine_id, PowerState.OFF)
        target = _prepare_replacing(bench, subject, disks)
        bench.provider.set_power(subject.machine_id, PowerState.ON)
        with raises(MachineRunning):
            bench.provider.commit_target(target.target_id)
        subject.assert_live()
        bench.provider.set_power(subject.machine_id, PowerState.OFF)
        bench.provider.commit_target(target.target_id)
        subject.content.zero(Span(0, 2 * MIB))
        subject.assert_live()

    def test_an_abandoned_replacement_leaves_the_machine_alone(self, bench: ProviderBench) -> None:
        """Its disks keep their content."""
        subject = Subject(bench, "web", 2 * MIB)
        subject.write(Span(0, MIB))
        target = _prepare_replacing(bench, subject, [Disk(key=subject.key, size_bytes=2 * MIB)])
        bench.provider.abandon_target(target.target_id)
        subject.assert_live()
        assert bench.provider.machine(subject.machine_id) == subject.machine
        assert bench.provider.targets() == []

    def test_a_machine_that_is_not_there_cannot_be_replaced(self, bench: ProviderBench) -> None:
        """The id must be that of a machine."""
        with raises(MachineNotFound):
            bench.provider.prepare_target("t", _machine("web"), _DISKS, MachineId("nobody"))

    def test_impossible_disks_are_refused(self, bench: ProviderBench) -> None:
        """Two disks of one key, and sizes that no disk can have."""
        twice = (Disk(key=DiskKey("a"), size_bytes=MIB), Disk(key=DiskKey("a"), size_bytes=MIB))
        odd = (Disk(key=DiskKey("a"), size_bytes=MIB + 1),)
        empty = (Disk(key=DiskKey("a"), size_bytes=0),)
        for disks in (twice, odd, empty):
            with raises(RequestInvalid):
                bench.provider.prepare_target("token", _machine("new"), disks, None)
        assert bench.provider.targets() == []


_DISKS = (Disk(key=DiskKey("a"), size_bytes=4 * MIB), Disk(key=DiskKey("b"), size_bytes=MIB))


def _machine(name: str) -> Machine:
    """Return a machine as it was captured, maybe long ago and somewhere else."""
    return Machine(machine_id=MachineId("captured"), name=name, power=PowerState.ON, disks=_DISKS)


def _prepare(bench: ProviderBench, name: str) -> RestoreTarget:
    return bench.provider.prepare_target(f"token {name}", _machine(name), _DISKS, None)


def _prepare_replacing(bench: ProviderBench, subject: Subject, disks: Sequence[Disk]) -> RestoreTarget:
    captured = msgspec.structs.replace(subject.machine, disks=tuple(disks))
    return bench.provider.prepare_target("token", captured, disks, subject.machine_id)


def _write(disk: DiskWriter, content: PatternedDisk, span: Span) -> None:
    _put(disk, span, content.write(span))


def _put(disk: DiskWriter, span: Span, data: bytes) -> None:
    disk.write(span.start, memoryview(data))
