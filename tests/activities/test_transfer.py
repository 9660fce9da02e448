"""Moving the bytes of one disk: what is read and why, resuming, and what is refused."""

import shutil

import msgspec
import pytest
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from activities.contracts.repository import AbandonPoint
from activities.contracts.transfer import TransferCursor
from holdfast.errors import (
    CredentialMissing,
    DiskChanged,
    DiskNotFound,
    OperationInterrupted,
    PointNotFound,
    RepositoryUnavailable,
    RequestInvalid,
    SnapshotNotFound,
)
from holdfast.model.ids import CredentialName, DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.plan import ReadMode, Transport, TransportMode
from holdfast.planning.bottleneck import bottleneck_words
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import SourceDisk
from holdfast.providers.raw_disks import FrozenDisk
from tests.activities.lab import (
    CREDENTIAL,
    KEY,
    PIECE,
    STORE,
    UNIT,
    Attempt,
    Lab,
    cursors,
    failure,
    run,
    stopping,
    without_times,
)

SIZE = 48 * PIECE + 512
ABSENT = CredentialName("absent")


# -- the way ----------------------------------------------------------------------------------------------------------


def test_the_way_a_disk_was_read_is_told_and_better_ways_that_failed_are_noted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = LocalProvider.open_disk
    way = Transport(mode=TransportMode.HTTPS, reason="nothing else works", failed=("direct: no mount", "network: none"))

    def open_disk(provider: LocalProvider, machine_id: MachineId, snapshot_id: SnapshotId, key: DiskKey) -> SourceDisk:
        disk = usual(provider, machine_id, snapshot_id, key)
        assert isinstance(disk, FrozenDisk)
        disk.transport = way
        return disk

    machine = lab.add_machine(size_bytes=SIZE)
    copied, _ = lab.back_up(machine)
    assert copied.transport is not None
    assert (copied.transport.mode, copied.note) == (TransportMode.DIRECT, "")
    monkeypatch.setattr(LocalProvider, "open_disk", open_disk)
    copied, _ = lab.back_up(machine, "s2")
    assert copied.transport == way
    assert copied.note == "read over https because better ways failed: direct: no mount; network: none"


def test_it_is_told_how_busy_each_stage_was(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    attempt, request = Attempt(), lab.begun(machine)
    copied = attempt.run(lab.transfers.copy_disk, request)
    figures = copied.figures
    assert 0 < figures.source_s <= figures.duration_s
    assert 0 < figures.target_s <= figures.duration_s
    assert figures.network_s == figures.throttled_s == 0
    assert copied.bottleneck == bottleneck_words(figures)
    assert cursors(attempt)[0].bottleneck == bottleneck_words(cursors(attempt)[0].figures)
    again = Attempt(cursors(attempt)[-1]).run(lab.transfers.copy_disk, request).figures
    assert again.source_s >= cursors(attempt)[-1].figures.source_s, "attempts add up"


# -- resuming ----------------------------------------------------------------------------------------------------------


def test_a_second_call_gives_the_same_reply(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    first, second = (run(lab.transfers.copy_disk, request) for _ in range(2))
    assert without_times(second) == without_times(first)
    point = lab.finish(request.point)
    assert lab.restored(machine, point) == lab.content(machine)


def test_a_worker_that_shuts_down_leaves_committed_work_for_the_next_attempt(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    attempt = stopping(ActivityEnvironment.worker_shutdown)
    failed = failure(OperationInterrupted, lab.transfers.copy_disk, request, attempt)
    assert not failed.non_retryable
    last = cursors(attempt)[-1]
    assert 0 < last.committed_bytes < SIZE

    again = Attempt(last)
    copied = again.run(lab.transfers.copy_disk, request)
    beats = cursors(again)
    assert beats[0].committed_bytes >= last.committed_bytes
    assert beats[0].reached_bytes > last.committed_bytes
    assert len(beats) < SIZE // UNIT, "what was committed is not dealt with again"
    assert copied.figures.processed_bytes == SIZE
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_a_cancelled_copy_stops_and_keeps_what_is_committed(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    attempt = stopping(ActivityEnvironment.cancel)
    with pytest.raises(CancelledError):
        attempt.run(lab.transfers.copy_disk, request)
    committed = lab.committed_bytes(request)
    assert cursors(attempt)[-1].committed_bytes <= committed < SIZE
    run(lab.transfers.copy_disk, request)
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_an_increment_resumes_too(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    lab.back_up(machine)
    lab.overwrite(machine, PIECE, SIZE - 2 * PIECE)
    request = lab.begun(machine, "s2")
    attempt = stopping(ActivityEnvironment.worker_shutdown)
    failure(OperationInterrupted, lab.transfers.copy_disk, request, attempt)
    copied = Attempt(cursors(attempt)[-1]).run(lab.transfers.copy_disk, request)
    assert copied.decision.mode is ReadMode.CHANGED
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_the_chain_file_and_not_a_heartbeat_says_where_a_copy_goes_on(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    boast = TransferCursor(machine=machine.name, disk=KEY, size_bytes=SIZE, committed_bytes=SIZE, reached_bytes=SIZE)
    Attempt(boast).run(lab.transfers.copy_disk, request)
    assert lab.restored(machine, lab.finish(request.point)) == lab.content(machine)


def test_a_reported_cursor_speaks_of_what_the_file_holds_already(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    request = lab.begun(machine)
    attempt, held = Attempt(), list[int]()
    attempt.on_beat = lambda _: held.append(lab.committed_bytes(request))
    attempt.run(lab.transfers.copy_disk, request)
    reported = [cursor.committed_bytes for cursor in cursors(attempt)]
    assert all(said <= there for said, there in zip(reported, held, strict=True))
    assert reported == sorted(reported)
    assert reported[-1] > 0
    assert {(c.machine, c.disk, c.size_bytes) for c in cursors(attempt)} == {(machine.name, KEY, SIZE)}


# -- what a copy refuses -----------------------------------------------------------------------------------------------


def test_a_disk_of_another_size_than_the_points_is_refused(lab: Lab) -> None:
    snapshot = lab.freeze(lab.add_machine(size_bytes=SIZE))
    disks = tuple(msgspec.structs.replace(disk, size_bytes=SIZE + 512) for disk in snapshot.disks)
    opened = lab.begin(msgspec.structs.replace(snapshot, disks=disks))
    failed = failure(DiskChanged, lab.transfers.copy_disk, lab.copy_request(snapshot, opened))
    assert f"{SIZE} bytes" in failed.message


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../00000001-full.hfc"},
        {"file": "../../../repository.json"},
        {"file": "/etc/passwd"},
        {"file": "chain.hfm"},
        {"chain": "../.."},
        {"chain": "machines/../.."},
        {"chain": "/etc/a/b"},
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(lab: Lab, changes: dict[str, str]) -> None:
    request = lab.begun(lab.add_machine(size_bytes=SIZE))
    point = msgspec.structs.replace(request.point, **changes)
    failed = failure(RequestInvalid, lab.transfers.copy_disk, msgspec.structs.replace(request, point=point))
    assert failed.non_retryable


def test_a_file_that_is_gone_is_said_and_a_lost_mount_is_another_matter(lab: Lab) -> None:
    request = lab.begun(lab.add_machine(size_bytes=SIZE))
    lab.chain_file(request.point).unlink()
    failed = failure(PointNotFound, lab.transfers.copy_disk, request)
    assert failed.non_retryable
    shutil.rmtree(lab.repository.root)
    failed = failure(RepositoryUnavailable, lab.transfers.copy_disk, request)
    assert not failed.non_retryable


def test_a_point_that_was_abandoned_cannot_be_copied_into(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    snapshot = lab.freeze(machine)
    request = lab.copy_request(snapshot, lab.begin(snapshot))
    run(lab.transfers.copy_disk, request)
    abandon = AbandonPoint(repository=STORE, session_id=SessionId("s1"), snapshot=snapshot)
    run(lab.points.abandon_point, abandon)
    failure(PointNotFound, lab.transfers.copy_disk, request)
    assert lab.chain_files() == []


def test_a_snapshot_or_disk_that_is_not_there_is_said(lab: Lab) -> None:
    request = lab.begun(lab.add_machine(size_bytes=SIZE))
    unknown = msgspec.structs.replace(request, snapshot_id=SnapshotId("0" * 32))
    failure(SnapshotNotFound, lab.transfers.copy_disk, unknown)
    failure(DiskNotFound, lab.transfers.copy_disk, msgspec.structs.replace(request, disk=DiskKey("disk9")))


def test_a_missing_credential_ends_both_directions(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=SIZE)
    copied = lab.begun(machine)
    failed = failure(CredentialMissing, lab.transfers.copy_disk, msgspec.structs.replace(copied, credential=ABSENT))
    assert failed.non_retryable
    run(lab.transfers.copy_disk, copied)
    restored = lab.restore_request(lab.prepare(machine), lab.finish(copied.point))
    failure(CredentialMissing, lab.transfers.restore_disk, msgspec.structs.replace(restored, credential=ABSENT))


def test_an_encrypted_point_is_copied_and_restored_with_its_credential(lab: Lab) -> None:
    machine = lab.add_machine(size_bytes=4 * PIECE)
    snapshot = lab.freeze(machine)
    opened = run(lab.points.begin_point, lab.begin_request(snapshot, CREDENTIAL))
    request = msgspec.structs.replace(lab.copy_request(snapshot, opened), credential=CREDENTIAL)
    run(lab.transfers.copy_disk, request)
    assert lab.content(machine)[:PIECE] not in lab.chain_file(opened).read_bytes()
    point = lab.finish(opened, CREDENTIAL)
    target = lab.prepare(machine)
    restore = msgspec.structs.replace(lab.restore_request(target, point), credential=CREDENTIAL)
    assert run(lab.transfers.restore_disk, restore).compared
    assert lab.content(lab.commit(target)) == lab.content(machine)
