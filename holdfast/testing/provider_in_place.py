"""Conformance: restore targets whose disks begin with what the machine has."""

from collections.abc import Sequence

from holdfast.errors import (
    ChangeTrackingLost,
    DiskNotFound,
    MachineNotFound,
    MachineRunning,
    RequestInvalid,
)
from holdfast.model.ids import ChangeId, DiskKey, MachineId, TargetId
from holdfast.model.machine import Choice, Disk, PowerState, RestoreTarget
from holdfast.model.spans import Span
from holdfast.testing.provider_bench import (
    MIB,
    ProviderBench,
    Subject,
    assert_covered,
    assert_same,
    assert_sorted,
    raises,
    read_all,
)

_GRAIN = 64 << 10
_NAME = "token"


class InPlaceConformance:
    """What a machine has is kept until the commit, and given back by whoever gives up."""

    def test_a_target_in_place_begins_with_what_the_machine_has(self, bench: ProviderBench) -> None:
        """It reads as the live disk does, and says which machine it is of."""
        subject = _subject(bench)
        target = _prepare(bench, subject)
        assert target.is_in_place
        assert target.replaces == subject.machine_id
        assert target.disks == subject.machine.disks
        for key in subject.keys:
            with bench.provider.open_target(target.target_id, key) as disk:
                assert_same(subject.contents[key], read_all(disk), f"target disk {key}")

    def test_a_commit_in_place_keeps_what_was_written(self, bench: ProviderBench) -> None:
        """The rest is as it was; the machine keeps its id, name and disks. It can be repeated."""
        subject = _subject(bench)
        target = _prepare(bench, subject)
        _overwrite(bench, subject, target)
        committed = bench.provider.commit_target(target.target_id)
        assert committed == subject.machine
        subject.assert_live()
        assert bench.reconnect().commit_target(target.target_id) == committed
        subject.assert_live()
        bench.provider.abandon_target(target.target_id)
        subject.assert_live()
        assert bench.provider.targets() == []

    def test_only_some_disks_may_be_taken(self, bench: ProviderBench) -> None:
        """The others are left alone."""
        subject = _subject(bench)
        target = _prepare(bench, subject, subject.machine.disks[1:])
        with raises(DiskNotFound):
            bench.provider.open_target(target.target_id, subject.key)
        _overwrite(bench, subject, target, subject.keys[1])
        bench.provider.commit_target(target.target_id)
        subject.assert_live()

    def test_abandoning_in_place_gives_back_every_byte(self, bench: ProviderBench) -> None:
        """The token can be used again, and finds what the machine has then."""
        subject = _subject(bench)
        before = {key: bench.read_live(subject.machine_id, key) for key in subject.keys}
        target = _prepare(bench, subject)
        with bench.provider.open_target(target.target_id, subject.key) as disk:
            disk.write(0, memoryview(b"x" * MIB))
            disk.write_zeros(Span(MIB, MIB))
            disk.flush()
        for _ in range(2):
            bench.reconnect().abandon_target(target.target_id)
        assert {key: bench.read_live(subject.machine_id, key) for key in subject.keys} == before
        assert bench.provider.machine(subject.machine_id) == subject.machine
        assert bench.provider.targets() == []
        with raises(RequestInvalid):
            bench.provider.open_target(target.target_id, subject.key)
        with raises(RequestInvalid):
            bench.provider.commit_target(target.target_id)
        again = _prepare(bench, subject)
        with bench.provider.open_target(again.target_id, subject.key) as disk:
            assert_same(subject.content, read_all(disk), "target of the second attempt")

    def test_the_same_token_goes_on_in_place(self, bench: ProviderBench) -> None:
        """Also for a process that was started again; the target is listed until its end."""
        subject = _subject(bench)
        target = _prepare(bench, subject)
        _overwrite(bench, subject, target)
        provider = bench.reconnect()
        assert provider.prepare_in_place(_NAME, subject.machine_id, subject.machine.disks) == target
        assert provider.targets() == [target]
        with provider.open_target(target.target_id, subject.key) as disk:
            assert_same(subject.content, read_all(disk), "target of the first attempt")
        with raises(RequestInvalid):
            provider.prepare_in_place(_NAME, subject.machine_id, subject.machine.disks[:1])

    def test_a_target_is_looked_for_without_being_made(self, bench: ProviderBench) -> None:
        """Of either kind, as long as it is neither committed nor abandoned."""
        subject = _subject(bench)
        machine_id, disks = subject.machine_id, subject.machine.disks
        for _ in range(2):
            assert bench.provider.find_target(_NAME, machine_id) is None
        assert bench.provider.find_target(_NAME, MachineId("nobody")) is None
        assert bench.provider.targets() == []
        target_id = _prepare(bench, subject).target_id
        assert bench.reconnect().find_target(_NAME, machine_id) == target_id
        assert bench.provider.find_target("another token", machine_id) is None
        bench.provider.abandon_target(target_id)
        assert bench.provider.find_target(_NAME, machine_id) is None
        target_id = bench.provider.prepare_target(_NAME, subject.machine, disks, machine_id).target_id
        assert bench.reconnect().find_target(_NAME, machine_id) == target_id
        bench.provider.commit_target(target_id)
        assert bench.provider.find_target(_NAME, machine_id) is None

    def test_changes_in_place_are_told_or_lost(self, bench: ProviderBench) -> None:
        """What differs from an earlier state is among them, also when some of it was written back already."""
        subject = _subject(bench)
        first = subject.snapshot("first")
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        changed = [Span(0, _GRAIN), Span(MIB, 2 * _GRAIN)]
        for span in changed:
            subject.write(span)
        target = _prepare(bench, subject)
        since = first.disks[0].change_id
        if since is None:
            return
        with bench.provider.open_target(target.target_id, subject.key) as disk:
            disk.write(0, memoryview(b"y" * _GRAIN))
            disk.flush()
        try:
            spans = list(bench.reconnect().target_changes(target.target_id, subject.key, since))
        except ChangeTrackingLost:
            return
        assert_sorted(spans, subject.content.size_bytes)
        assert_covered(changed, spans, "changes in place")

    def test_changes_since_an_unknown_state_are_lost(self, bench: ProviderBench) -> None:
        """Nobody guesses."""
        subject = _subject(bench)
        target = _prepare(bench, subject)
        with raises(ChangeTrackingLost):
            list(bench.provider.target_changes(target.target_id, subject.key, ChangeId("nonsense")))
        with raises(DiskNotFound):
            list(bench.provider.target_changes(target.target_id, DiskKey("none"), ChangeId("nonsense")))

    def test_a_target_that_began_empty_has_no_changes(self, bench: ProviderBench) -> None:
        """Nothing is known of what was there before."""
        subject = _subject(bench)
        target = bench.provider.prepare_target(_NAME, subject.machine, subject.machine.disks, subject.machine_id)
        with raises(RequestInvalid):
            list(bench.provider.target_changes(target.target_id, subject.key, ChangeId("nonsense")))

    def test_changes_by_a_rollback_are_tracked_or_lost(self, bench: ProviderBench) -> None:
        """The next increment must not miss that the disk went back in time."""
        subject = _subject(bench)
        first = subject.snapshot("first")
        bench.provider.remove_snapshot(subject.machine_id, first.snapshot_id)
        target = _prepare(bench, subject)
        _overwrite(bench, subject, target)
        bench.provider.commit_target(target.target_id)
        second = subject.snapshot("second")
        with bench.provider.open_disk(subject.machine_id, second.snapshot_id, subject.key) as disk:
            assert_same(subject.content, read_all(disk), "frozen disk after the rollback")
        since = first.disks[0].change_id
        if since is None or second.disks[0].change_id is None:
            return
        try:
            spans = list(bench.provider.changed_spans(subject.machine_id, second.snapshot_id, subject.key, since))
        except ChangeTrackingLost:
            return
        assert_covered(_WRITTEN, spans, "changed spans")

    def test_a_running_machine_is_not_written_to(self, bench: ProviderBench) -> None:
        """Refused when the target is prepared and again at the commit.

        Off, it goes through, unless the machine could have written to these very disks: then the target is undecided.
        """
        subject = _subject(bench)
        bench.provider.set_power(subject.machine_id, PowerState.ON)
        with raises(MachineRunning):
            _prepare(bench, subject)
        bench.provider.set_power(subject.machine_id, PowerState.OFF)
        target = _prepare(bench, subject)
        bench.provider.set_power(subject.machine_id, PowerState.ON)
        with raises(MachineRunning):
            bench.provider.commit_target(target.target_id)
        bench.provider.set_power(subject.machine_id, PowerState.OFF)
        [left] = bench.provider.targets()
        if left.undecided:
            with raises(RequestInvalid):
                bench.provider.commit_target(target.target_id)
            bench.provider.decide_target(target.target_id, Choice.KEEP)
        else:
            _overwrite(bench, subject, target)
            bench.provider.commit_target(target.target_id)
        subject.assert_live()
        assert bench.provider.targets() == []

    def test_disks_that_do_not_fit_are_refused(self, bench: ProviderBench) -> None:
        """Another size, a disk or a machine that is not there; nothing is left of the attempt."""
        subject = _subject(bench)
        larger = Disk(key=subject.key, size_bytes=8 * MIB)
        for disks in ([larger], [Disk(key=DiskKey("none"), size_bytes=MIB)]):
            with raises(RequestInvalid):
                _prepare(bench, subject, disks)
        with raises(MachineNotFound):
            bench.provider.prepare_in_place(_NAME, MachineId("nobody"), subject.machine.disks)
        assert bench.provider.targets() == []
        subject.assert_live()

    def test_asking_whether_blocks_are_shared_changes_nothing(self, bench: ProviderBench) -> None:
        """Disks that do not fit share nothing, whatever the storage can do."""
        subject = _subject(bench)
        answers = {bench.provider.shares_blocks(subject.machine_id, subject.machine.disks) for _ in range(2)}
        assert len(answers) == 1
        for key, size_bytes in ((subject.key, 8 * MIB), (DiskKey("none"), MIB)):
            assert not bench.provider.shares_blocks(subject.machine_id, [Disk(key=key, size_bytes=size_bytes)])
        assert bench.provider.targets() == []
        subject.assert_live()

    def test_unknown_targets_in_place_are_refused(self, bench: ProviderBench) -> None:
        """Abandoning one is no fault."""
        subject = _subject(bench)
        target_id = _prepare(bench, subject).target_id
        unknown = TargetId("0" * 32 + target_id[32:])
        with raises(RequestInvalid):
            bench.provider.open_target(unknown, subject.key)
        with raises(RequestInvalid):
            list(bench.provider.target_changes(unknown, subject.key, ChangeId("nonsense")))
        with raises(RequestInvalid):
            bench.provider.commit_target(unknown)
        bench.provider.abandon_target(unknown)
        subject.assert_live()


_WRITTEN = (Span(_GRAIN, MIB), Span(3 * MIB, _GRAIN))


def _subject(bench: ProviderBench) -> Subject:
    subject = Subject(bench, "web", 4 * MIB, 4 * MIB)
    for key in subject.keys:
        subject.write(Span(0, 3 * MIB), key)
    return subject


def _prepare(bench: ProviderBench, subject: Subject, disks: Sequence[Disk] | None = None) -> RestoreTarget:
    wanted = subject.machine.disks if disks is None else disks
    return bench.provider.prepare_in_place(_NAME, subject.machine_id, wanted)


def _overwrite(bench: ProviderBench, subject: Subject, target: RestoreTarget, key: DiskKey | None = None) -> None:
    """Write something new to a disk of a target, and expect it to be what the machine shall hold."""
    wanted = subject.key if key is None else key
    content = subject.contents[wanted]
    with bench.provider.open_target(target.target_id, wanted) as disk:
        for span in _WRITTEN:
            disk.write(span.start, memoryview(content.write(span)))
        content.zero(Span(2 * MIB, _GRAIN))
        disk.write_zeros(Span(2 * MIB, _GRAIN))
        disk.flush()
