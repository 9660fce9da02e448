"""Conformance: snapshots, and reading their disks."""

import random
from concurrent.futures import ThreadPoolExecutor

from holdfast.errors import DiskNotFound, DiskReadFailed, MachineNotFound, SnapshotNotFound
from holdfast.model.ids import DiskKey, MachineId, SnapshotId
from holdfast.model.machine import PowerState, Quiesce, SnapshotOptions
from holdfast.model.spans import Span
from holdfast.testing.provider_bench import (
    MIB,
    ProviderBench,
    Subject,
    assert_covered,
    assert_same,
    assert_sorted,
    raises,
    read,
    read_all,
)

_THREADS = 4
_READS = 200


class SnapshotConformance:
    """Temporary frozen states."""

    def test_a_snapshot_keeps_the_content_while_the_disk_changes(self, bench: ProviderBench) -> None:
        """What is written, zeroed or overwritten later is not seen; the live disk has it."""
        subject = Subject(bench, "web", 4 * MIB)
        subject.write(Span(MIB, MIB))
        snapshot = subject.snapshot("tag")
        frozen = subject.content.copy()
        subject.write(Span(MIB + 512, 4096))
        subject.zero(Span(MIB + 64 * 1024, 65536))
        subject.write(Span(3 * MIB, 512))
        with bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as d:
            assert d.size_bytes == frozen.size_bytes
            assert_same(frozen, read_all(d), "frozen disk")
        subject.assert_live()

    def test_a_snapshot_describes_what_it_froze(self, bench: ProviderBench) -> None:
        """Machine, tag and disks are those of the moment, also when the machine changes later."""
        subject = Subject(bench, "web", 2 * MIB, 3 * MIB)
        bench.provider.set_power(subject.machine_id, PowerState.ON)
        snapshot = subject.snapshot("session 1/web")
        bench.provider.set_power(subject.machine_id, PowerState.OFF)
        assert snapshot.machine_id == subject.machine_id
        assert snapshot.tag == "session 1/web"
        assert snapshot.machine.name == "web"
        assert snapshot.machine.power is PowerState.ON
        assert [(d.key, d.size_bytes) for d in snapshot.disks] == [(d.key, d.size_bytes) for d in subject.machine.disks]
        assert bench.reconnect().snapshots(subject.machine_id) == [snapshot]

    def test_a_machine_without_disks_can_be_frozen(self, bench: ProviderBench) -> None:
        """Its snapshot has no disks."""
        subject = Subject(bench, "diskless")
        assert subject.snapshot("tag").disks == ()

    def test_a_machine_that_is_off_is_at_rest(self, bench: ProviderBench) -> None:
        """It is frozen without complaint, however much that is asked for."""
        subject = Subject(bench, "web", MIB)
        for quiesce in Quiesce:
            tag, options = f"tag {quiesce}", SnapshotOptions(quiesce=quiesce)
            made = bench.provider.create_snapshot(subject.machine_id, tag, options)
            assert made.notes == (), f"quiesce={quiesce}: {made.notes}"
            bench.provider.remove_snapshot(subject.machine_id, made.snapshot_id)

    def test_the_same_tag_gives_the_same_snapshot(self, bench: ProviderBench) -> None:
        """The content is that of the first call."""
        subject = Subject(bench, "web", MIB)
        subject.write(Span(0, 4096))
        first = subject.snapshot("tag")
        frozen = subject.content.copy()
        subject.write(Span(0, 8192))
        again = bench.reconnect().create_snapshot(subject.machine_id, "tag")
        assert again == first
        with bench.provider.open_disk(subject.machine_id, again.snapshot_id, subject.key) as disk:
            assert_same(frozen, read_all(disk), "frozen disk")
        assert len(bench.provider.snapshots(subject.machine_id)) == 1

    def test_the_same_tag_on_another_machine_is_another_snapshot(self, bench: ProviderBench) -> None:
        """Tags are counted per machine."""
        one, two = Subject(bench, "one", MIB), Subject(bench, "two", MIB)
        assert one.snapshot("tag").machine_id == one.machine_id
        assert two.snapshot("tag").machine_id == two.machine_id
        assert len(bench.provider.snapshots(one.machine_id)) == 1

    def test_snapshots_are_listed_oldest_first(self, bench: ProviderBench) -> None:
        """Only those of the machine are listed."""
        subject, other = Subject(bench, "web", MIB), Subject(bench, "other", MIB)
        made = [subject.snapshot(tag) for tag in ("b", "a", "c")]
        assert bench.reconnect().snapshots(subject.machine_id) == made
        assert bench.provider.snapshots(other.machine_id) == []

    def test_every_open_snapshot_is_found_whatever_machine_it_is_of(self, bench: ProviderBench) -> None:
        """Whoever cleans up need not know the machines."""
        one, two = Subject(bench, "one", MIB), Subject(bench, "two", MIB)
        Subject(bench, "untouched", MIB)
        assert list(bench.provider.open_snapshots()) == []
        made = [one.snapshot("a"), two.snapshot("a"), two.snapshot("b")]
        found = list(bench.reconnect().open_snapshots())
        assert sorted(found, key=lambda s: (s.machine_id, s.tag)) == sorted(made, key=lambda s: (s.machine_id, s.tag))
        bench.provider.remove_snapshot(two.machine_id, made[1].snapshot_id)
        assert made[1] not in list(bench.provider.open_snapshots())

    def test_removal_is_idempotent_and_leaves_the_others(self, bench: ProviderBench) -> None:
        """The live disk and the later snapshot keep their content."""
        subject = Subject(bench, "web", 2 * MIB)
        subject.write(Span(0, MIB))
        first = subject.snapshot("first")
        subject.write(Span(MIB // 2, MIB))
        second, frozen = subject.snapshot("second"), subject.content.copy()
        for _ in range(2):
            bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        assert bench.provider.snapshots(subject.machine_id) == [second]
        with bench.provider.open_disk(subject.machine_id, second.snapshot_id, subject.key) as disk:
            assert_same(frozen, read_all(disk), "second snapshot")
        subject.assert_live()

    def test_removal_by_tag_counts_what_was_there(self, bench: ProviderBench) -> None:
        """Other tags and machines keep theirs, and a machine that is gone has none."""
        subject, other = Subject(bench, "web", MIB), Subject(bench, "other", MIB)
        subject.snapshot("tag")
        kept = [subject.snapshot("another"), other.snapshot("tag")]
        assert [bench.provider.remove_tagged(subject.machine_id, "tag") for _ in range(2)] == [1, 0]
        assert list(bench.reconnect().snapshots(subject.machine_id)) == kept[:1]
        assert list(bench.provider.snapshots(other.machine_id)) == kept[1:]
        assert bench.provider.remove_tagged(MachineId("nobody"), "tag") == 0

    def test_a_tag_can_be_used_again_after_removal(self, bench: ProviderBench) -> None:
        """The second snapshot is a new one with the new content."""
        subject = Subject(bench, "web", MIB)
        first = subject.snapshot("tag")
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        subject.write(Span(0, 4096))
        again = subject.snapshot("tag")
        with bench.provider.open_disk(subject.machine_id, again.snapshot_id, subject.key) as disk:
            assert_same(subject.content, read_all(disk), "second snapshot")

    def test_what_does_not_exist_is_not_found(self, bench: ProviderBench) -> None:
        """Machines, snapshots and disks each have their error."""
        subject = Subject(bench, "web", MIB)
        snapshot = subject.snapshot("tag")
        provider = bench.provider
        with raises(MachineNotFound):
            provider.create_snapshot(MachineId("nobody"), "tag")
        for missing in ("", "..", "no-such-snapshot", "0" * 32):
            with raises(SnapshotNotFound):
                provider.open_disk(subject.machine_id, SnapshotId(missing), subject.key)
        with raises(DiskNotFound):
            provider.open_disk(subject.machine_id, snapshot.snapshot_id, DiskKey("no such disk"))
        provider.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
        with raises(SnapshotNotFound):
            provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)

    def test_allocated_spans_leave_out_only_zeros(self, bench: ProviderBench) -> None:
        """They ascend, stay within the disk and cover everything that was written."""
        subject = Subject(bench, "web", 64 * MIB)
        chance = random.Random(bench.seed)
        for _ in range(40):
            start = chance.randrange(subject.content.size_bytes // 512 - 256)
            subject.write(Span(start * 512, chance.randrange(1, 256) * 512))
        subject.write(Span(0, 512))
        subject.write(Span(64 * MIB - 512, 512))
        snapshot = subject.snapshot("tag")
        provider = bench.provider
        with provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk:
            spans = list(disk.allocated_spans())
            assert list(disk.allocated_spans()) == spans
        assert_sorted(spans, 64 * MIB)
        assert_covered(subject.content.nonzero_spans(), spans, "allocated spans")

    def test_the_place_of_a_disk_stays_while_it_does(self, bench: ProviderBench) -> None:
        """Neither the guest's writes, nor reads, nor another process change it."""
        subject = Subject(bench, "web", 2 * MIB)
        subject.write(Span(0, MIB))
        snapshot = subject.snapshot("tag")
        wanted = (subject.machine_id, snapshot.snapshot_id, subject.key)
        with bench.provider.open_disk(*wanted) as disk:
            assert bench.provider.disk_place(*wanted) == disk.place
            subject.write(Span(MIB, MIB))
            read_all(disk)
            assert bench.provider.disk_place(*wanted) == disk.place
        assert bench.reconnect().disk_place(*wanted) == disk.place

    def test_reads_at_any_offset_give_the_right_bytes(self, bench: ProviderBench) -> None:
        """Offsets and lengths need no alignment; the last byte can be read."""
        subject = Subject(bench, "web", 4 * MIB)
        subject.write(Span(0, 4 * MIB))
        size = subject.content.size_bytes
        snapshot = subject.snapshot("tag")
        spans = [Span(0, 1), Span(511, 2), Span(size - 1, 1), Span(MIB - 7, MIB + 13), Span(9, 0)]
        with bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as d:
            for span in spans:
                assert read(d, span) == subject.content.read(span), span

    def test_reads_behind_the_end_fail(self, bench: ProviderBench) -> None:
        """All of the buffer is filled, or the read fails."""
        subject = Subject(bench, "web", MIB)
        snapshot = subject.snapshot("tag")
        with bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as d:
            for span in (Span(MIB, 1), Span(MIB - 1, 2), Span(MIB + 512, 512), Span(-1, 1)):
                with raises(DiskReadFailed):
                    read(d, span)

    def test_a_closed_disk_cannot_be_read(self, bench: ProviderBench) -> None:
        """Closing twice does no harm."""
        subject = Subject(bench, "web", MIB)
        snapshot = subject.snapshot("tag")
        disk = bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        disk.close()
        disk.close()
        with raises(DiskReadFailed):
            read(disk, Span(0, 1))

    def test_several_threads_may_read_one_disk(self, bench: ProviderBench) -> None:
        """Each gets its own bytes, also while the spans are listed."""
        subject = Subject(bench, "web", 8 * MIB)
        subject.write(Span(0, 8 * MIB))
        expected = subject.content.read(Span(0, 8 * MIB))
        snapshot = subject.snapshot("tag")
        chance = random.Random(bench.seed)
        starts = [chance.randrange(7 * MIB) for _ in range(_READS)]
        spans = [Span(start, chance.randrange(1, MIB)) for start in starts]
        with (
            bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as disk,
            ThreadPoolExecutor(_THREADS) as threads,
        ):
            found = threads.map(lambda span: read(disk, span), spans)
            listed = [list(disk.allocated_spans()) for _ in range(10)]
            for span, data in zip(spans, found, strict=True):
                assert data == expected[span.start : span.end], span
        assert all(spans == listed[0] for spans in listed)

    def test_a_disk_can_be_opened_several_times(self, bench: ProviderBench) -> None:
        """Closing one handle leaves the other open."""
        subject = Subject(bench, "web", MIB)
        subject.write(Span(0, MIB))
        snapshot = subject.snapshot("tag")
        first = bench.provider.open_disk(subject.machine_id, snapshot.snapshot_id, subject.key)
        with bench.reconnect().open_disk(subject.machine_id, snapshot.snapshot_id, subject.key) as second:
            first.close()
            assert_same(subject.content, read_all(second), "second handle")
