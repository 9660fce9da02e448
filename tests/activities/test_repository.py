"""The life of restore points in a repository."""

import shutil
from datetime import timedelta

import msgspec
import pytest

from activities.contracts.repository import AbandonPoint, FindPoint, FinishPoint, PointAbandoned
from activities.contracts.repository import VerifyCursor as Cursor
from activities.contracts.repository import VerifyPoints as Verify
from holdfast.errors import (
    ChainBusy,
    CredentialMissing,
    OperationInterrupted,
    PassphraseWrong,
    PointNotFound,
    RepositoryNotFound,
    RepositoryUnavailable,
    RequestInvalid,
)
from holdfast.model.fulls import FullDays, FullPolicy
from holdfast.model.ids import CredentialName, RepositoryName, SessionId
from holdfast.model.machine import Snapshot
from holdfast.model.points import PointSummary, VerifyReport
from holdfast.storage.chain_files.chain_writer import ChainWriter
from tests.activities.lab import CREDENTIAL, PIECE, STORE, Attempt, Lab, failure, run, run_twice

ABSENT = CredentialName("absent")
OTHER = CredentialName("other")


def abandonment(snapshot: Snapshot) -> AbandonPoint:
    return AbandonPoint(repository=STORE, session_id=SessionId(snapshot.tag), snapshot=snapshot)


# -- begin -------------------------------------------------------------------------------------------------------------


def test_a_point_is_begun_once_for_its_session(lab: Lab) -> None:
    request = lab.begin_request(lab.freeze(lab.add_machine()))
    first, again = (run(lab.points.begin_point, request) for _ in range(2))
    assert msgspec.structs.replace(again, reason=first.reason) == first
    assert (first.kind, first.parent_number, first.reason) == ("full", None, "no chain of this machine yet")
    assert len(lab.chain_files()) == 1


def test_the_next_session_begins_an_increment_unless_a_full_is_asked_for(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    snapshot = lab.freeze(machine, "s2")
    opened = lab.begin(snapshot)
    assert (opened.kind, opened.chain, opened.parent_number) == ("increment", first.chain, first.number)
    run(lab.points.abandon_point, abandonment(snapshot))
    request = msgspec.structs.replace(lab.begin_request(lab.freeze(machine, "s3")), full=True)
    opened = run(lab.points.begin_point, request)
    assert (opened.kind, opened.reason) == ("full", "a full was asked for")
    assert opened.chain != first.chain


def test_a_full_is_due_by_the_day_on_which_the_session_began(lab: Lab) -> None:
    machine = lab.add_machine()
    lab.back_up(machine)
    daily = FullPolicy(active=FullDays(weekdays=tuple(range(7))))
    request = msgspec.structs.replace(lab.begin_request(lab.freeze(machine, "s2")), fulls=daily)
    later = msgspec.structs.replace(request, began=request.snapshot.created + timedelta(days=1))
    assert run(lab.points.begin_point, later).reason.startswith("active full: due on monday")


def test_without_its_credential_nothing_is_begun(lab: Lab) -> None:
    request = lab.begin_request(lab.freeze(lab.add_machine()), ABSENT)
    failed = failure(CredentialMissing, lab.points.begin_point, request)
    assert failed.non_retryable
    assert lab.chain_files() == []


def test_a_lost_mount_is_waited_for_and_an_unknown_repository_is_not(lab: Lab) -> None:
    request = lab.begin_request(lab.freeze(lab.add_machine()))
    other = msgspec.structs.replace(request, repository=RepositoryName("other"))
    assert failure(RepositoryNotFound, lab.points.begin_point, other).non_retryable
    shutil.rmtree(lab.repository.root)
    assert not failure(RepositoryUnavailable, lab.points.begin_point, request).non_retryable
    assert not lab.repository.root.exists()


# -- finish ------------------------------------------------------------------------------------------------------------


def test_a_finished_point_is_finished_again_with_the_same_answer(lab: Lab) -> None:
    machine = lab.add_machine()
    request = lab.begun(machine)
    run(lab.transfers.copy_disk, request)
    summary = run_twice(lab.points.finish_point, FinishPoint(repository=STORE, point=request.point))
    assert (summary.point_id, summary.kind) == (request.point.point_id, "full")
    assert (summary.machine_name, summary.size_bytes) == (machine.name, machine.disks[0].size_bytes)
    assert summary.file_bytes <= lab.chain_file(summary).stat().st_size


def test_a_point_whose_disk_was_not_copied_is_not_finished(lab: Lab) -> None:
    request = lab.begun(lab.add_machine())
    failure(RequestInvalid, lab.points.finish_point, FinishPoint(repository=STORE, point=request.point))
    failure(PointNotFound, lab.points.find_point, FindPoint(repository=STORE))


@pytest.mark.parametrize("changes", [{"file": "../00000001-full.hfc"}, {"chain": "../.."}])
def test_a_name_that_leads_elsewhere_is_not_finished(lab: Lab, changes: dict[str, str]) -> None:
    point = msgspec.structs.replace(lab.begun(lab.add_machine()).point, **changes)
    failure(RequestInvalid, lab.points.finish_point, FinishPoint(repository=STORE, point=point))


# -- abandon -----------------------------------------------------------------------------------------------------------


def test_an_abandoned_point_leaves_no_file(lab: Lab) -> None:
    snapshot = lab.freeze(lab.add_machine())
    request = lab.copy_request(snapshot, lab.begin(snapshot))
    run(lab.transfers.copy_disk, request)
    assert run(lab.points.abandon_point, abandonment(snapshot)) == PointAbandoned(removed=(request.point.file,))
    assert lab.chain_files() == []
    assert run_twice(lab.points.abandon_point, abandonment(snapshot)) == PointAbandoned()


def test_only_what_the_session_began_is_abandoned(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    snapshot = lab.freeze(machine, "s2")
    opened = lab.begin(snapshot)
    of_first = abandonment(msgspec.structs.replace(snapshot, tag="s1"))
    assert run(lab.points.abandon_point, of_first) == PointAbandoned()
    assert run(lab.points.abandon_point, abandonment(snapshot)) == PointAbandoned(removed=(opened.file,))
    assert lab.chain_files() == [first.file]


def test_a_session_that_began_nothing_has_nothing_to_abandon(lab: Lab) -> None:
    snapshot = lab.freeze(lab.add_machine())
    assert run_twice(lab.points.abandon_point, abandonment(snapshot)) == PointAbandoned()


def test_a_point_that_is_still_written_is_not_abandoned(lab: Lab) -> None:
    snapshot = lab.freeze(lab.add_machine())
    opened = lab.begin(snapshot)
    with ChainWriter.resume(lab.repository.files, lab.chain_file(opened)):
        failed = failure(ChainBusy, lab.points.abandon_point, abandonment(snapshot))
    assert not failed.non_retryable
    assert lab.chain_files() == [opened.file]


# -- find --------------------------------------------------------------------------------------------------------------


def test_a_point_is_found_by_the_beginning_of_its_id_and_as_the_newest(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    _, second = lab.back_up(machine, "s2")
    found = run_twice(lab.points.find_point, FindPoint(repository=STORE, reference=first.point_id[:12]))
    assert (found.chain, found.number, found.point_id) == (first.chain, first.number, first.point_id)
    assert (found.machine.name, found.machine.disks, found.encrypted) == (machine.name, machine.disks, False)
    latest = run(lab.points.find_point, FindPoint(repository=STORE, machine=machine.name))
    assert latest.point_id == second.point_id


def test_the_newest_of_several_machines_asks_for_a_machine(lab: Lab) -> None:
    lab.back_up(lab.add_machine("web"))
    _, mail = lab.back_up(lab.add_machine("mail"))
    failure(RequestInvalid, lab.points.find_point, FindPoint(repository=STORE))
    assert run(lab.points.find_point, FindPoint(repository=STORE, machine="mail")).point_id == mail.point_id
    failure(PointNotFound, lab.points.find_point, FindPoint(repository=STORE, machine="ghost"))


# -- verify ------------------------------------------------------------------------------------------------------------


def test_every_chain_is_verified(lab: Lab) -> None:
    for name in ("web", "mail"):
        lab.back_up(lab.add_machine(name))
    report = run_twice(lab.upkeep.verify_points, Verify(repository=STORE))
    assert report.is_good
    assert (report.chains, report.points) == (2, 2)
    assert report.stored_bytes > 2 * PIECE


def test_one_machine_or_one_point_is_verified_alone(lab: Lab) -> None:
    _, first = lab.back_up(lab.add_machine("web"))
    mail = lab.add_machine("mail")
    lab.back_up(mail)
    lab.overwrite(mail, 0, PIECE)
    _, second = lab.back_up(mail, "s2")
    of_mail = run(lab.upkeep.verify_points, Verify(repository=STORE, machine="mail"))
    assert (of_mail.chains, of_mail.points) == (1, 2)
    of_web = run(lab.upkeep.verify_points, Verify(repository=STORE, chain=first.chain))
    assert (of_web.chains, of_web.points) == (1, 1)
    one = Verify(repository=STORE, chain=second.chain, numbers=(second.number,))
    assert run(lab.upkeep.verify_points, one).points == 1
    failed = failure(PointNotFound, lab.upkeep.verify_points, Verify(repository=STORE, machine="ghost"))
    assert "ghost" in failed.message
    failure(PointNotFound, lab.upkeep.verify_points, Verify(repository=STORE, machine="ghost", newest=True))
    failure(RequestInvalid, lab.upkeep.verify_points, Verify(repository=STORE, chain="../../.."))


def test_a_verification_goes_on_behind_the_chains_that_are_done(lab: Lab) -> None:
    for name in ("web", "mail", "last"):
        lab.back_up(lab.add_machine(name))
    request = Verify(repository=STORE)
    whole = Attempt()
    report = whole.run(lab.upkeep.verify_points, request)

    attempt = Attempt()
    attempt.on_beat = lambda beat: attempt.environment.worker_shutdown() if done(beat) else None
    failure(OperationInterrupted, lab.upkeep.verify_points, request, attempt)
    last = attempt.beats[-1]
    assert isinstance(last, Cursor)
    assert (last.chains_done, last.chains) == (1, 3)
    assert last.partial.chains == 1

    again = Attempt(last)
    assert again.run(lab.upkeep.verify_points, request) == report
    assert [done(beat) for beat in again.beats] == [beat for beat in map(done, whole.beats) if beat]


def done(beat: object) -> int:
    assert isinstance(beat, Cursor)
    return beat.chains_done


def test_a_verification_begins_anew_when_chains_came(lab: Lab) -> None:
    lab.back_up(lab.add_machine("web"))
    request = Verify(repository=STORE)
    claimed = VerifyReport(chains=1, points=900)
    previous = Cursor(chain="machines/x/y", chains_done=1, chains=2, checked_bytes=0, partial=claimed)
    assert Attempt(previous).run(lab.upkeep.verify_points, request).points == 1
    same_count = msgspec.structs.replace(previous, chains=1)
    assert Attempt(same_count).run(lab.upkeep.verify_points, request).points == 1


def test_an_encrypted_repository_is_verified_with_its_credential_only(lab: Lab) -> None:
    snapshot = lab.freeze(lab.add_machine())
    opened = run(lab.points.begin_point, lab.begin_request(snapshot, CREDENTIAL))
    copy = msgspec.structs.replace(lab.copy_request(snapshot, opened), credential=CREDENTIAL)
    run(lab.transfers.copy_disk, copy)
    lab.finish(opened, CREDENTIAL)
    assert run(lab.upkeep.verify_points, Verify(repository=STORE, credential=CREDENTIAL)).is_good
    failure(PassphraseWrong, lab.upkeep.verify_points, Verify(repository=STORE, chain=opened.chain))
    failure(CredentialMissing, lab.upkeep.verify_points, Verify(repository=STORE, credential=ABSENT))


def back_up_with(lab: Lab, name: str, credential: CredentialName) -> PointSummary:
    """Make a point of a new machine, with a credential that is written for it when it is not there."""
    secret = lab.credentials.folder / credential
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text(f"the passphrase {credential}\n")
    snapshot = lab.freeze(lab.add_machine(name))
    opened = run(lab.points.begin_point, lab.begin_request(snapshot, credential))
    run(lab.transfers.copy_disk, msgspec.structs.replace(lab.copy_request(snapshot, opened), credential=credential))
    return lab.finish(opened, credential)


def test_chains_of_several_credentials_are_verified_and_found_together(lab: Lab) -> None:
    lab.back_up(lab.add_machine("web"))
    back_up_with(lab, "mail", CREDENTIAL)
    newest = back_up_with(lab, "db", OTHER)
    both = (CREDENTIAL, OTHER)
    report = run(lab.upkeep.verify_points, Verify(repository=STORE, credentials=both))
    assert (report.is_good, report.chains, report.points) == (True, 3, 3)
    one_more = Verify(repository=STORE, credential=OTHER, credentials=(CREDENTIAL,))
    assert run(lab.upkeep.verify_points, one_more).is_good
    find = FindPoint(repository=STORE, machine="db", credentials=both)
    assert run(lab.points.find_point, find).point_id == newest.point_id
    point = Verify(repository=STORE, chain=newest.chain, numbers=(newest.number,), credentials=both)
    assert run(lab.upkeep.verify_points, point).points == 1


def test_a_chain_that_no_credential_opens_is_damage_and_the_others_are_read(lab: Lab) -> None:
    lab.back_up(lab.add_machine("web"))
    closed = back_up_with(lab, "db", OTHER)
    report = run(lab.upkeep.verify_points, Verify(repository=STORE, credentials=(CREDENTIAL,)))
    assert (report.chains, report.points) == (2, 1)
    assert [(damage.chain, damage.code) for damage in report.damages] == [(closed.chain, "passphrase-wrong")]
    (lab.credentials.folder / OTHER).unlink()
    report = run(lab.upkeep.verify_points, Verify(repository=STORE, credentials=(CREDENTIAL, OTHER)))
    assert [(damage.chain, damage.code) for damage in report.damages] == [(closed.chain, "credential-missing")]


def test_a_closed_chain_of_another_machine_does_not_matter_to_one_that_is_named(lab: Lab) -> None:
    machine = lab.add_machine("web")
    lab.back_up(machine)
    back_up_with(lab, "db", OTHER)
    for name in (machine.name, machine.machine_id):
        assert run(lab.upkeep.verify_points, Verify(repository=STORE, machine=name)).is_good
    (damage,) = run(lab.upkeep.verify_points, Verify(repository=STORE, machine="db")).damages
    assert damage.code == "passphrase-wrong"
    failure(PointNotFound, lab.upkeep.verify_points, Verify(repository=STORE, machine="ghost"))
