"""Moving a disk: the same bytes come back, whatever interrupts, and every degraded choice is told."""

from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError, CancelledError

from activities.contracts import target as target_contract
from activities.contracts.transfer import DiskRestored, RestoreDisk, TransferCursor
from holdfast.errors import SyncFailed
from holdfast.model.ids import CredentialName, DiskKey, TargetId
from holdfast.model.plan import ReadMode
from holdfast.model.points import PointSummary
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.atomic import HostFiles
from holdfast.storage.chain_writer import ChainWriter
from tests.activities.lab import LAB, MIB, VAULT, Attempt, Fault, Killed, Lab, copy_request, die


def restored(lab: Lab, point: PointSummary, name: str, attempt: Attempt | None = None, **more: Any) -> DiskRestored:
    """Restore the first disk of a point to a new machine."""
    target_id = prepared(lab, point, name)
    used = attempt if attempt is not None else Attempt()
    reply = used.run(lab.transfers.restore_disk, restore_request(point, target_id, **more))
    commit = target_contract.CommitTarget(provider=LAB, target_id=target_id)
    Attempt().run(lab.targets.commit_target, commit)
    return reply


def prepared(lab: Lab, point: PointSummary, name: str) -> TargetId:
    stored = lab.open_repository(VAULT).find_point(point.point_id, lab.passphrases["secret"])
    machine = stored.point.captured_machine()
    request = target_contract.PrepareTarget(
        provider=LAB,
        token=name,
        machine=type(machine)(machine_id=machine.machine_id, name=name, power=machine.power, disks=machine.disks[:1]),
        disks=machine.disks[:1],
    )
    return Attempt().run(lab.targets.prepare_target, request).target_id


def restore_request(point: PointSummary, target_id: TargetId, **more: Any) -> RestoreDisk:
    return RestoreDisk(
        provider=LAB,
        target_id=target_id,
        disk=DiskKey("disk0"),
        repository=VAULT,
        chain=point.chain,
        number=point.number,
        **more,
    )


def restored_bytes(lab: Lab, name: str) -> bytes:
    (folder,) = (lab.folder / "lab" / "machines").glob(f"{name}-*")
    return (folder / "disk-0.raw").read_bytes()


def code_of(caught: pytest.ExceptionInfo[ApplicationError]) -> tuple[str | None, bool]:
    return caught.value.type, caught.value.non_retryable


def test_what_is_copied_comes_back(lab: Lab) -> None:
    machine = lab.machine()
    point, (copied,) = lab.back_up(machine, "s1")
    assert copied.decision.mode is ReadMode.FULL
    assert copied.figures.processed_bytes == copied.figures.size_bytes == 8 * MIB
    assert copied.figures.stored_bytes >= copied.figures.transferred_bytes >= 4 * MIB
    assert copied.figures.resent_bytes == 0
    assert copied.note == ""
    reply = restored(lab, point, "copy")
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()
    assert reply.compared
    assert reply.figures.processed_bytes == 8 * MIB


def test_a_second_point_reads_only_what_changed(lab: Lab) -> None:
    machine = lab.machine()
    lab.back_up(machine, "s1")
    lab.change(machine, 3 * MIB, 100_000)
    point, (copied,) = lab.back_up(machine, "s2")
    assert copied.decision.mode is ReadMode.CHANGED
    assert copied.figures.read_bytes < MIB
    restored(lab, point, "copy")
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()


def test_an_encrypted_point_needs_its_credential(lab: Lab) -> None:
    machine = lab.machine(sizes=(MIB,))
    point, _ = lab.back_up(machine, "s1", credential="secret")
    reply = restored(lab, point, "copy", credential=CredentialName("secret"))
    assert reply.figures.processed_bytes == MIB
    target_id = prepared(lab, point, "other")
    with pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.restore_disk, restore_request(point, target_id))
    assert caught.value.type == "passphrase-wrong"
    with pytest.raises(ApplicationError) as caught:
        request = restore_request(point, target_id, credential=CredentialName("lost"))
        Attempt().run(lab.transfers.restore_disk, request)
    assert code_of(caught) == ("credential-missing", True)


def test_an_interrupted_copy_goes_on_at_its_last_commit(lab: Lab) -> None:
    machine = lab.machine(sizes=(32 * MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")
    first = Attempt()
    with Fault("pipe.unit_written", 8, first.environment.worker_shutdown), pytest.raises(ApplicationError) as caught:
        first.run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert code_of(caught) == ("interrupted", False)
    cursor = first.cursor
    assert 0 < cursor.committed_bytes <= cursor.reached_bytes < cursor.size_bytes == 32 * MIB
    second = Attempt(cursor)
    copied = second.run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert copied.figures.resent_bytes == cursor.reached_bytes - committed(second)
    assert copied.figures.read_bytes == 16 * MIB + copied.figures.resent_bytes
    assert copied.figures.duration_s > cursor.figures.duration_s
    assert copied.busy["source"] >= cursor.busy["source"]
    point = lab.finish(opened)
    restored(lab, point, "copy")
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()


def committed(attempt: Attempt) -> int:
    """Return where an attempt went on: its figures are those of the first report, minus what it read by then."""
    return min(
        report.committed_bytes for report in attempt.reports if report.figures.resent_bytes or report.start_bytes
    )


def test_a_copy_killed_at_any_commit_step_goes_on_without_a_cursor(lab: Lab) -> None:
    machine = lab.machine(sizes=(16 * MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")
    request = copy_request(frozen, opened)
    for name in ("pipe.unit_written", "commit.before_sync", "commit.before_flip", "commit.flipped", "commit.done"):
        with Fault(name, 2, die), pytest.raises(Killed):
            Attempt().run(lab.transfers.copy_disk, request)
    copied = Attempt().run(lab.transfers.copy_disk, request)
    assert copied.figures.processed_bytes == 16 * MIB
    point = lab.finish(opened)
    restored(lab, point, "copy")
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()


def test_a_copy_that_is_done_can_be_repeated(lab: Lab) -> None:
    machine = lab.machine(sizes=(MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")
    first = Attempt()
    first.run(lab.transfers.copy_disk, copy_request(frozen, opened))
    again = Attempt(first.cursor).run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert again.figures.processed_bytes == MIB
    assert again.figures.read_bytes == first.cursor.figures.read_bytes
    lab.finish(opened)


def test_lost_change_tracking_is_told_and_nothing_is_missed(lab: Lab) -> None:
    machine = lab.machine()
    lab.back_up(machine, "s1")
    for path in (lab.folder / "lab").rglob("*.map"):
        path.unlink()
    lab.change(machine, 5 * MIB, 4096)
    point, (copied,) = lab.back_up(machine, "s2")
    assert copied.decision.mode is ReadMode.COMPARED
    assert "change tracking was lost" in copied.decision.reason
    assert copied.note.startswith("read in full and compared")
    assert copied.figures.stored_bytes < MIB
    restored(lab, point, "copy")
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()


def test_tracking_that_was_switched_off_is_told_once(lab: Lab) -> None:
    machine = lab.machine()
    lab.back_up(machine, "s1")
    lab.provider = LocalProvider(lab.folder / "lab", lab.clock, change_tracking=False)
    _, (first,) = lab.back_up(machine, "s2")
    _, (second,) = lab.back_up(machine, "s3")
    assert first.decision.mode is second.decision.mode is ReadMode.COMPARED
    assert "does not track" in first.note
    assert second.note == ""
    assert "no change id" in second.decision.reason


def test_a_comparison_that_was_asked_for_is_no_degraded_choice(lab: Lab) -> None:
    machine = lab.machine()
    lab.back_up(machine, "s1")
    frozen = lab.freeze(machine, "s2")
    opened = lab.begin(frozen, "s2")
    copied = Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened, distrust_changes=True))
    assert copied.decision.mode is ReadMode.COMPARED
    assert copied.note == ""
    assert copied.figures.read_bytes >= 4 * MIB


def test_a_disk_that_is_new_in_a_chain_is_read_in_full(lab: Lab) -> None:
    machine = lab.machine(sizes=(MIB,))
    lab.back_up(machine, "s1")
    extra = lab.folder / "web-1.raw"
    extra.write_bytes(lab.random.randbytes(MIB))
    (file,) = (lab.folder / "lab" / "machines").rglob("machine.json")
    file.write_text(
        file.read_text()
        .replace('"disks":[', f'"disks":[{{"key":"disk1","path":"{extra}"}},')
        .replace('"disks": [', f'"disks": [{{"key":"disk1","path":"{extra}"}},')
    )
    _, copied = lab.back_up(machine, "s2")
    modes = {reply.disk: reply.decision.mode for reply in copied}
    assert modes == {"disk0": ReadMode.CHANGED, "disk1": ReadMode.FULL}


def test_a_disk_of_another_size_than_the_point_was_begun_with_is_refused(lab: Lab) -> None:
    machine = lab.machine(sizes=(MIB,))
    opened = lab.begin(lab.freeze(machine, "s1"), "s1")
    with lab.disk(machine).open("r+b") as file:
        file.truncate(2 * MIB)
    grown = lab.freeze(machine, "s2")
    with pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.copy_disk, copy_request(grown, opened))
    assert code_of(caught) == ("disk-changed", True)


def test_a_file_that_is_gone_and_a_repository_that_is_gone_are_told_apart(lab: Lab) -> None:
    machine = lab.machine(sizes=(MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")
    away = lab.vault.with_name("away")
    lab.vault.rename(away)
    with pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert code_of(caught) == ("repository-unavailable", False)
    away.rename(lab.vault)
    (lab.vault / opened.chain / opened.file).unlink()
    with pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert code_of(caught) == ("point-not-found", True)


def test_a_chain_with_another_writer_is_tried_again(lab: Lab) -> None:
    machine = lab.machine(sizes=(MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")
    with ChainWriter.resume(HostFiles(), lab.vault / opened.chain / opened.file):
        with pytest.raises(ApplicationError) as caught:
            Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened))
        assert code_of(caught) == ("chain-busy", False)
    Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened))


def test_a_cancelled_copy_stops_and_its_file_can_be_removed(lab: Lab) -> None:
    machine = lab.machine(sizes=(32 * MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")
    attempt = Attempt()
    with Fault("pipe.unit_written", 4, attempt.environment.cancel), pytest.raises(CancelledError):
        attempt.run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert lab.abandon(frozen, "s1") == (opened.file,)
    assert list(lab.vault.rglob("*.hfc")) == []


def test_a_file_whose_flush_failed_is_never_continued(lab: Lab) -> None:
    machine = lab.machine(sizes=(8 * MIB,))
    frozen = lab.freeze(machine, "s1")
    opened = lab.begin(frozen, "s1")

    def fail() -> None:
        raise SyncFailed("sync of the file failed: input/output error")

    with Fault("file.sync", 2, fail), pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert code_of(caught) == ("sync-failed", True)
    with pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.copy_disk, copy_request(frozen, opened))
    assert code_of(caught) == ("point-not-found", True)
    assert lab.abandon(frozen, "s1") == (f"{opened.file}.suspect",)
    lab.back_up(machine, "s2")


def test_an_interrupted_restore_goes_on_at_its_last_flush(lab: Lab) -> None:
    machine = lab.machine(sizes=(32 * MIB,))
    point, _ = lab.back_up(machine, "s1")
    target_id = prepared(lab, point, "copy")
    first = Attempt()
    with Fault("restore.block_written", 6, first.environment.worker_shutdown), pytest.raises(ApplicationError):
        first.run(lab.transfers.restore_disk, restore_request(point, target_id))
    cursor = first.cursor
    assert cursor.target_id == target_id
    assert cursor.committed_bytes <= cursor.reached_bytes
    reply = restored(lab, point, "copy", Attempt(cursor))
    assert reply.figures.resent_bytes == cursor.reached_bytes - cursor.committed_bytes
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()


@pytest.mark.parametrize("target_id", ["another", ""])
def test_a_cursor_of_another_target_is_not_believed(lab: Lab, target_id: str) -> None:
    machine = lab.machine(sizes=(4 * MIB,))
    point, _ = lab.back_up(machine, "s1")
    cursor = TransferCursor(
        machine="web",
        disk=DiskKey("disk0"),
        size_bytes=4 * MIB,
        committed_bytes=4 * MIB,
        reached_bytes=4 * MIB,
        target_id=target_id,
    )
    reply = restored(lab, point, "copy", Attempt(cursor), compare=False)
    assert not reply.compared
    assert reply.figures.resent_bytes == 0
    assert restored_bytes(lab, "copy") == lab.disk(machine).read_bytes()


def test_a_target_that_does_not_hold_what_was_written_is_found(lab: Lab) -> None:
    machine = lab.machine(sizes=(4 * MIB,))
    point, _ = lab.back_up(machine, "s1")
    target_id = prepared(lab, point, "copy")

    def spoil() -> None:
        path: Path = next((lab.folder / "lab" / "targets").rglob("disk-0.raw"))
        with path.open("r+b") as file:
            file.write(b"spoilt")

    with Fault("restore.block_written", 3, spoil), pytest.raises(ApplicationError) as caught:
        Attempt().run(lab.transfers.restore_disk, restore_request(point, target_id))
    assert code_of(caught) == ("restored-bytes-differ", True)
