"""A disk that moves while it is copied is copied again from the start, and the session says so."""

from collections.abc import Iterator
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from holdfast.errors import DiskMoved, OperationInterrupted, SnapshotNotFound
from holdfast.model.ids import DiskKey, MachineId, SnapshotId
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import SourceDisk
from tests.activities.lab import PIECE, Attempt, Lab, failure, run, stopping

SIZE = 48 * PIECE + 512


class Storage:
    """A datastore on which disks lie at places that change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = "[a] web.vmdk"
        self.moves: list[str] = []
        """Where the disk goes while it is copied, one place for each attempt."""
        usual = LocalProvider.open_disk

        def open_disk(
            provider: LocalProvider, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey
        ) -> SourceDisk:
            disk = usual(provider, machine_id, snapshot_id, key)
            disk.place = self.now
            return disk

        really = LocalProvider.disk_place

        def disk_place(*where: Any) -> str:
            really(*where)
            if self.moves:
                self.now = self.moves.pop(0)
            return self.now

        monkeypatch.setattr(LocalProvider, "open_disk", open_disk)
        monkeypatch.setattr(LocalProvider, "disk_place", disk_place)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    return Storage(monkeypatch)


def test_a_disk_that_stays_is_copied_once(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    copied, point = lab.back_up(machine)
    assert (copied.decision.mode, copied.note) == (ReadMode.FULL, "")
    assert lab.restored(machine, point) == lab.content(machine)


def test_a_disk_that_moved_is_copied_again_and_that_is_noted(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    storage.moves = ["[b] web.vmdk"]
    failed = failure(DiskMoved, lab.transfers.copy_disk, request)
    assert not failed.non_retryable
    assert "moved from [a] web.vmdk to [b] web.vmdk while it was copied" in failed.message
    copied = run(lab.transfers.copy_disk, request)
    assert copied.decision.mode is ReadMode.FULL
    assert copied.decision.reason == "the disk moved while it was copied, and lies at [b] web.vmdk now"
    assert copied.note == f"copied again from the start, because {copied.decision.reason}"
    assert copied.figures.read_bytes > SIZE, "twice what is allocated"
    assert copied.figures.transferred_bytes < SIZE, "nothing is stored twice"
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_an_increment_of_a_disk_that_moved_is_compared(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE, PIECE)
    request = lab.begun(machine, "s2")
    storage.moves = ["[b] web.vmdk"]
    failure(DiskMoved, lab.transfers.copy_disk, request)
    copied = run(lab.transfers.copy_disk, request)
    assert copied.decision.mode is ReadMode.COMPARED
    assert "moved while it was copied" in copied.note
    point = lab.finish(request.point)
    assert point.kind == "increment"
    assert copied.figures.transferred_bytes < 2 * PIECE
    assert lab.restored(machine, point) == lab.content(machine)


def test_what_was_read_at_the_first_place_does_not_count(
    lab: Lab, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, 5 * PIECE, PIECE)
    request = lab.begun(machine, "s2")
    frozen = lab.provider.disk_paths  # the live disk is not what is read
    usual = LocalProvider.changed_spans
    torn: list[bool] = [True]

    def changed_spans(*arguments: Any) -> Iterator[Span]:
        return iter([Span(0, SIZE)]) if torn[0] else usual(*arguments)

    monkeypatch.setattr(LocalProvider, "changed_spans", changed_spans)
    [path] = (lab.root / "provider" / "snapshots").glob(f"{machine.machine_id}/{request.snapshot_id}/*.raw")
    true = path.read_bytes()
    with path.open("r+b") as disk:
        for piece in (2, 5, 9, 20, 47):
            disk.seek(piece * PIECE)
            disk.write(b"torn" * 1000)
    storage.moves = ["[b] web.vmdk"]
    failure(DiskMoved, lab.transfers.copy_disk, request)
    path.write_bytes(true)
    torn[0] = False
    run(lab.transfers.copy_disk, request)
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)
    assert frozen(machine.machine_id)


def test_a_move_between_two_attempts_is_noticed_by_the_second(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    failure(OperationInterrupted, lab.transfers.copy_disk, request, stopping(ActivityEnvironment.worker_shutdown))
    assert lab.committed_bytes(request) > 0
    storage.now = "[b] web.vmdk"
    copied = run(lab.transfers.copy_disk, request)
    assert "copied again from the start" in copied.note
    assert copied.figures.processed_bytes == SIZE
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_a_move_after_the_last_commit_of_a_process_that_died_is_noticed(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    run(lab.transfers.copy_disk, request)
    storage.now = "[b] web.vmdk"
    assert "copied again from the start" in run(lab.transfers.copy_disk, request).note
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_a_disk_that_goes_on_moving_is_left_to_another_session(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    storage.moves = ["[b] web.vmdk", "[c] web.vmdk", "[d] web.vmdk"]
    assert not failure(DiskMoved, lab.transfers.copy_disk, request).non_retryable
    assert not failure(DiskMoved, lab.transfers.copy_disk, request).non_retryable
    last = failure(DiskMoved, lab.transfers.copy_disk, request)
    assert last.non_retryable
    assert "moved from [c] web.vmdk to [d] web.vmdk" in last.message
    assert last.message.endswith("for the third time")
    assert failure(DiskMoved, lab.transfers.copy_disk, request).non_retryable
    assert lab.disk_of(request).moves == 2


def test_a_disk_that_moved_and_whose_snapshot_is_gone_is_no_matter_of_moving(lab: Lab, storage: Storage) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    attempt = Attempt()
    storage.moves = ["[b] web.vmdk"]
    attempt.on_beat = lambda _: lab.provider.remove_snapshot(machine.machine_id, request.snapshot_id)
    failure(SnapshotNotFound, lab.transfers.copy_disk, request, attempt)
