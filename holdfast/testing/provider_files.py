"""Conformance: the small files that describe machines to their hypervisor."""

from holdfast.errors import RequestInvalid, SnapshotNotFound
from holdfast.model.ids import DiskKey, MachineId, SnapshotId, TargetId
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget
from holdfast.model.machine_files import MachineFile, is_file_name, within_limits
from holdfast.testing.provider_bench import MIB, ProviderBench, Subject, raises

_CAPTURED = (
    MachineFile(name="web.vmx", content=b'displayName = "somebody else"\n'),
    MachineFile(name="web.nvram", content=bytes(range(256)) * 33),
    MachineFile(name="machine.json", content=b"{}"),
    MachineFile(name="unheard-of.bin", content=b"\0" * 100),
)
_DISKS = (Disk(key=DiskKey("a"), size_bytes=MIB),)


class FilesConformance:
    """Machine files, captured and placed."""

    def test_the_files_of_a_machine_are_read_beside_a_snapshot(self, bench: ProviderBench) -> None:
        """A restore point can keep them, or a reason stands for them; another process reads the same."""
        subject = Subject(bench, "Übergröße 1", MIB)
        snapshot = subject.snapshot("tag")
        found = bench.provider.machine_files(subject.machine_id, snapshot.snapshot_id)
        names = [*(file.name for file in found.files), *(file.name for file in found.left_out)]
        assert len(set(names)) == len(names), names
        assert all(map(is_file_name, names)), names
        assert within_limits(found) == found
        assert all(file.reason for file in found.left_out)
        again = bench.reconnect().machine_files(subject.machine_id, snapshot.snapshot_id)
        assert again == found

    def test_reading_the_files_changes_nothing(self, bench: ProviderBench) -> None:
        """Neither the machine nor its disks nor the snapshot."""
        subject = Subject(bench, "web", MIB)
        snapshot = subject.snapshot("tag")
        bench.provider.machine_files(subject.machine_id, snapshot.snapshot_id)
        assert bench.provider.snapshots(subject.machine_id) == [snapshot]
        assert bench.provider.machine(subject.machine_id) == subject.machine
        subject.assert_live()

    def test_without_its_snapshot_no_files_are_read(self, bench: ProviderBench) -> None:
        """Nobody would know what time they belong to."""
        subject = Subject(bench, "web", MIB)
        snapshot = subject.snapshot("tag")
        bench.provider.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
        for snapshot_id in (snapshot.snapshot_id, SnapshotId("none")):
            with raises(SnapshotNotFound):
                bench.reconnect().machine_files(subject.machine_id, snapshot_id)

    def test_a_new_machine_takes_files_and_stays_itself(self, bench: ProviderBench) -> None:
        """Whatever it is given, it has its own name and id, is off, and can be used; placing may be repeated."""
        other = Subject(bench, "other", MIB)
        target = _prepare(bench, None)
        first = bench.provider.place_machine_files(target.target_id, _CAPTURED)
        assert {*first.placed, *(file.name for file in first.left_out)} <= {file.name for file in _CAPTURED}
        assert bench.reconnect().place_machine_files(target.target_id, _CAPTURED) == first
        assert bench.provider.targets() == [target]
        made = bench.provider.commit_target(target.target_id)
        assert (made.name, made.power) == ("restored", PowerState.OFF)
        assert [disk.size_bytes for disk in made.disks] == [MIB]
        assert sorted(machine.name for machine in bench.provider.machines()) == ["other", "restored"]
        snapshot = bench.provider.create_snapshot(made.machine_id, "tag")
        captured = bench.provider.machine_files(made.machine_id, snapshot.snapshot_id)
        assert {file.content for file in _CAPTURED if file.name in first.placed} <= {f.content for f in captured.files}
        other.assert_live()

    def test_no_files_are_no_fault(self, bench: ProviderBench) -> None:
        """A point may have none."""
        target = _prepare(bench, None)
        done = bench.provider.place_machine_files(target.target_id, ())
        assert (done.placed, done.left_out) == ((), ())

    def test_a_machine_whose_disks_are_replaced_keeps_its_own_files(self, bench: ProviderBench) -> None:
        """It is the same machine before and after."""
        subject = Subject(bench, "web", MIB)
        target = _prepare(bench, subject.machine_id, subject.key)
        before = _files(bench, subject)
        done = bench.provider.place_machine_files(target.target_id, _CAPTURED)
        assert (done.placed, done.left_out) == ((), ())
        assert not {file.content for file in _CAPTURED} & {file.content for file in _files(bench, subject)}
        assert [file.name for file in _files(bench, subject)] == [file.name for file in before]

    def test_only_a_prepared_target_takes_files(self, bench: ProviderBench) -> None:
        """A machine that was committed may be in use."""
        target = _prepare(bench, None)
        bench.provider.commit_target(target.target_id)
        for target_id in (target.target_id, TargetId("0" * 32)):
            with raises(RequestInvalid):
                bench.provider.place_machine_files(target_id, _CAPTURED)


def _prepare(bench: ProviderBench, replaces: MachineId | None, key: DiskKey = _DISKS[0].key) -> RestoreTarget:
    disks = (Disk(key=key, size_bytes=MIB),)
    name = "restored" if replaces is None else bench.provider.machine(replaces).name
    machine = Machine(machine_id=MachineId("captured"), name=name, power=PowerState.ON, disks=disks)
    return bench.provider.prepare_target("token", machine, disks, replaces)


def _files(bench: ProviderBench, subject: Subject) -> tuple[MachineFile, ...]:
    """Return the files of the machine, with a snapshot that is there for so long."""
    snapshot = subject.snapshot("files")
    found = bench.provider.machine_files(subject.machine_id, snapshot.snapshot_id)
    bench.provider.remove_snapshot(subject.machine_id, snapshot.snapshot_id)
    return found.files
