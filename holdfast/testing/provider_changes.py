"""Conformance: changed spans."""

import random
from collections.abc import Sequence

from holdfast.errors import ChangeTrackingLost, DiskNotFound, SnapshotNotFound
from holdfast.model.ids import ChangeId, DiskKey, SnapshotId
from holdfast.model.machine import Snapshot
from holdfast.model.spans import Span, total_length
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.provider_bench import (
    MIB,
    ProviderBench,
    Subject,
    assert_covered,
    assert_same,
    assert_sorted,
    raises,
    read_all,
    widened,
)

_ROUNDS = 6
_WRITES = 5


class ChangeConformance:
    """What may differ between an earlier state and a snapshot."""

    def test_every_snapshot_names_its_state(self, bench: ProviderBench) -> None:
        """Each disk has a change id of its own."""
        subject = Subject(bench, "web", MIB, MIB)
        ids = [disk.change_id for tag in "ab" for disk in subject.snapshot(tag).disks]
        assert None not in ids

    def test_random_writes_are_never_missed(self, bench: ProviderBench) -> None:
        """Since any earlier state all differences are reported, and little else."""
        subject = Subject(bench, "web", 128 * MIB)
        chance = random.Random(bench.seed)
        states: list[tuple[Snapshot, PatternedDisk, int]] = []
        written: list[Span] = []
        for round_number in range(_ROUNDS):
            written += [_write_somewhere(subject, chance) for _ in range(_WRITES)]
            snapshot = subject.snapshot(f"round {round_number}")
            for earlier, content, count in states:
                spans = _changed(bench, subject, snapshot, earlier)
                assert_covered(subject.content.differing_spans(content), spans, "changed spans")
                bound = widened(written[count:], bench.change_grain_bytes, 128 * MIB)
                assert total_length(spans) <= bound
            if states:
                last = states[-1][0].snapshot_id
                bench.provider.remove_snapshot(subject.machine_id, last)
            states.append((snapshot, subject.content.copy(), len(written)))

    def test_changes_are_told_also_when_later_snapshots_exist(self, bench: ProviderBench) -> None:
        """A piece that changed again afterwards is not forgotten."""
        subject = Subject(bench, "web", 4 * MIB)
        first, base = subject.snapshot("first"), subject.content.copy()
        subject.write(Span(MIB, 4096))
        second, middle = subject.snapshot("second"), subject.content.copy()
        subject.write(Span(MIB, 4096))
        subject.write(Span(3 * MIB, 4096))
        subject.snapshot("third")
        spans = _changed(bench, subject, second, first)
        assert_covered(middle.differing_spans(base), spans, "changed spans of the second snapshot")

    def test_tracking_that_was_reset_knows_no_earlier_state(self, bench: ProviderBench) -> None:
        """What changes afterwards is told again."""
        subject = Subject(bench, "web", 4 * MIB)
        first = subject.snapshot("first")
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        bench.provider.reset_tracking(subject.machine_id)
        second, base = subject.snapshot("second"), subject.content.copy()
        with raises(ChangeTrackingLost):
            _changed(bench, subject, second, first)
        bench.provider.remove_snapshot(subject.machine_id, second.snapshot_id)
        subject.write(Span(MIB, 4096))
        spans = _changed(bench, subject, subject.snapshot("third"), second)
        assert_covered(subject.content.differing_spans(base), spans, "changed spans after the reset")

    def test_nothing_is_reported_when_nothing_changed(self, bench: ProviderBench) -> None:
        """At most the grain by which the provider sees changes is reported."""
        subject = Subject(bench, "web", 4 * MIB)
        subject.write(Span(0, MIB))
        first, second = subject.snapshot("first"), subject.snapshot("second")
        for since in (first, second):
            spans = _changed(bench, subject, second, since)
            assert total_length(spans) <= bench.change_grain_bytes

    def test_zeroed_bytes_count_as_changed(self, bench: ProviderBench) -> None:
        """The reader must learn that the data is gone."""
        subject = Subject(bench, "web", 4 * MIB)
        subject.write(Span(MIB, MIB))
        first, base = subject.snapshot("first"), subject.content.copy()
        subject.zero(Span(MIB, MIB))
        spans = _changed(bench, subject, subject.snapshot("second"), first)
        assert_covered(subject.content.differing_spans(base), spans, "changed spans")

    def test_the_disks_of_a_machine_are_tracked_apart(self, bench: ProviderBench) -> None:
        """A write to one disk is no change of the other."""
        subject = Subject(bench, "web", 4 * MIB, 4 * MIB)
        first = subject.snapshot("first")
        subject.write(Span(0, 2 * MIB), subject.keys[1])
        second = subject.snapshot("second")
        assert total_length(_changed(bench, subject, second, first)) <= bench.change_grain_bytes
        assert total_length(_changed(bench, subject, second, first, subject.keys[1])) >= 2 * MIB

    def test_an_unknown_change_id_is_lost_tracking(self, bench: ProviderBench) -> None:
        """So is an id that names a state of another disk."""
        subject, other = Subject(bench, "web", MIB), Subject(bench, "other", MIB)
        snapshot, foreign = subject.snapshot("tag"), other.snapshot("tag").disks[0].change_id
        assert foreign is not None
        for since in (ChangeId("no such state"), ChangeId(""), foreign):
            with raises(ChangeTrackingLost):
                _since(bench, subject, snapshot, since)

    def test_a_state_newer_than_the_snapshot_is_lost_tracking(self, bench: ProviderBench) -> None:
        """Changes are told forward only."""
        subject = Subject(bench, "web", MIB)
        first = subject.snapshot("first")
        subject.write(Span(0, 4096))
        second = subject.snapshot("second")
        with raises(ChangeTrackingLost):
            _changed(bench, subject, first, second)

    def test_changes_of_what_does_not_exist_are_refused(self, bench: ProviderBench) -> None:
        """Snapshots and disks each have their error."""
        subject = Subject(bench, "web", MIB)
        snapshot = subject.snapshot("tag")
        since = snapshot.disks[0].change_id
        assert since is not None
        machine_id, changed_spans = subject.machine_id, bench.provider.changed_spans
        with raises(SnapshotNotFound):
            list(changed_spans(machine_id, SnapshotId("0" * 32), subject.key, since))
        with raises(DiskNotFound):
            list(changed_spans(machine_id, snapshot.snapshot_id, DiskKey("none"), since))

    def test_a_grown_disk_is_tracked_or_lost(self, bench: ProviderBench) -> None:
        """What was written to the new part is reported; a new part of zeros need not be."""
        subject = Subject(bench, "web", 4 * MIB)
        subject.write(Span(0, 4 * MIB))
        first, base = subject.snapshot("first"), subject.content.copy()
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        bench.grow_disk(subject.machine_id, subject.key, 8 * MIB)
        subject.content.resize(8 * MIB)
        subject.write(Span(6 * MIB, 4096))
        second = subject.snapshot("second")
        assert second.disks[0].size_bytes == 8 * MIB
        try:
            spans = _changed(bench, subject, second, first)
        except ChangeTrackingLost:
            return  # some hypervisors reset tracking when a disk grows
        assert_covered(subject.content.differing_spans(base), spans, "changed spans")

    def test_disks_may_come_and_go_between_snapshots(self, bench: ProviderBench) -> None:
        """Each snapshot has the disks of its moment, and keeps them."""
        subject = Subject(bench, "web", MIB, MIB)
        subject.write(Span(0, 4096), subject.keys[1])
        gone = subject.contents.pop(subject.keys[1])
        first = subject.snapshot("first")
        bench.remove_disk(subject.machine_id, subject.keys[1])
        added = bench.add_disk(subject.machine_id, 2 * MIB)
        subject.contents[added] = PatternedDisk(bench.seed + 99, 2 * MIB)
        subject.write(Span(MIB, 4096), added)
        second = subject.snapshot("second")
        assert {d.key for d in first.disks} == set(subject.keys)
        assert {d.key for d in second.disks} == {subject.key, added}
        provider = bench.provider
        with provider.open_disk(subject.machine_id, first.snapshot_id, subject.keys[1]) as disk:
            assert_same(gone, read_all(disk), "disk that was removed")
        with provider.open_disk(subject.machine_id, second.snapshot_id, added) as disk:
            assert_same(subject.contents[added], read_all(disk), "disk that was added")
        subject.assert_live()


def _write_somewhere(subject: Subject, chance: random.Random) -> Span:
    """Write or zero a random run of sectors; often near the last one of a window or of the disk."""
    sectors = subject.content.size_bytes // 512
    count = chance.choice((1, 7, 128, chance.randrange(1, 2048)))
    start = chance.choice((chance.randrange(sectors), sectors // 2 - count // 2, sectors - count))
    span = Span(start * 512, min(count, sectors - start) * 512)
    if chance.random() < 0.2:  # noqa: PLR2004 - one write of five
        subject.zero(span)
    else:
        subject.write(span)
    return span


def _changed(
    bench: ProviderBench,
    subject: Subject,
    snapshot: Snapshot,
    earlier: Snapshot,
    key: DiskKey | None = None,
) -> Sequence[Span]:
    state = earlier.disk(subject.key if key is None else key)
    assert state is not None
    assert state.change_id is not None
    return _since(bench, subject, snapshot, state.change_id, key)


def _since(
    bench: ProviderBench,
    subject: Subject,
    snapshot: Snapshot,
    since: ChangeId,
    key: DiskKey | None = None,
) -> Sequence[Span]:
    wanted = subject.key if key is None else key
    spans = list(bench.provider.changed_spans(subject.machine_id, snapshot.snapshot_id, wanted, since))
    disk = snapshot.disk(wanted)
    assert disk is not None
    assert_sorted(spans, disk.size_bytes)
    return spans
