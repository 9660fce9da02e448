"""Archives stand beside the chain of their machine: nothing of a job touches them, and they touch nothing of a job."""

from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import CredentialMissing, PointLocked, RequestInvalid
from holdfast.model.archives import Archive, is_archive
from holdfast.model.ids import CredentialName, SessionId
from holdfast.model.owners import ChainOwner
from holdfast.model.points import PointSummary
from holdfast.model.retention import RetentionOptions
from holdfast.planning.grace import PurgeRule
from holdfast.planning.retention import Verdict
from holdfast.storage.chains.keeping import KEEP_NAME
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.lifecycle import abandon_session, chain_problem
from holdfast.storage.methods.applying import newest_chain
from holdfast.storage.retention.archiving import (
    archive_credential,
    archive_credentials,
    begin_archive,
    keep_archive,
    look_at_archives,
    plan_seen_archives,
)
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.storage.retention.graveyard import lock_points, purge_archives, purge_machine, take_back
from holdfast.storage.retention.looking import PlanWish, SeenMachine, take_note
from holdfast.storage.tools.chain_import import import_chain
from holdfast.testing.chains import ProtectedMachine
from tests.holdfast.storage.aging import age, look, on_disk, planned, points_rule
from tests.holdfast.storage.conftest import make_machine

VAULT = CredentialName("vault")


def passphrases(name: CredentialName | None) -> str | None:
    if name == VAULT:
        return "vault horse"
    if name is not None:
        raise CredentialMissing(f"no credential {name}")
    return None


def archived(
    machine: ProtectedMachine, expires: datetime | None = None, credential: CredentialName | None = None
) -> PointSummary:
    """Make an archive of the machine as it is now."""
    before = machine.store
    machine.store = msgspec.structs.replace(before, passphrase=passphrases(credential))
    machine.sessions += 1
    machine._before = {}  # all of the disks is read
    wish = Archive(expires=expires, credential=credential)
    opened = begin_archive(
        machine.repository, SessionId(f"session-{machine.sessions}"), machine.snapshot(), machine.store, wish
    )
    machine.transfer_all(opened)
    summary = machine.finish(opened)
    machine.store = before
    return summary


def look_at(machine: ProtectedMachine) -> SeenMachine:
    folder = machine.repository.machine_folder(machine.machine_id, machine.name)
    return look_at_archives(machine.repository, folder, passphrases)


def test_a_job_goes_on_beside_archives_as_if_there_were_none() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 2)
    first, second = archived(machine), archived(machine, clock.moment + timedelta(days=3))
    age(machine, 2, behind=2)
    assert is_archive(first.chain)
    assert (first.kind, first.number) == (second.kind, second.number) == ("full", 1)
    assert first.chain != second.chain
    [chain] = look(machine).chains
    assert [file.kind for file in chain.files] == ["full", "increment", "increment", "increment"]
    assert machine.differences() == []
    folder = machine.repository.machine_folder(machine.machine_id, machine.name)
    assert newest_chain(machine.repository, folder, machine.store.passphrase).name == chain.folder.name
    newest = machine.repository.find_point("latest", machine.store.passphrase)
    assert newest.point.id == machine.kept[-1].summary.point_id


def test_the_newest_archive_is_the_latest_point_of_a_machine_without_a_job() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 0)
    archived(machine)
    clock.moment += timedelta(days=1)
    second = archived(machine)
    assert machine.repository.find_point("latest", None).point.id == second.point_id
    summary = machine.back_up()
    assert summary.kind == "full"
    assert machine.repository.find_point("latest", None).point.id == summary.point_id


def test_the_retention_of_a_job_neither_sees_nor_counts_archives() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 4)
    archived(machine, clock.moment - timedelta(days=1))
    found = planned(machine, points_rule(2))
    assert not any(is_archive(point.chain) for point in found.judgement.plan.points)
    assert [point.verdict for point in found.judgement.plan.points][:2] == [Verdict.MERGED, Verdict.MERGED]


def test_an_archive_with_a_passphrase_of_its_own_disturbs_nobody() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 1)
    one = archived(machine, credential=VAULT)
    assert archive_credentials(machine.repository) == (VAULT,)
    age(machine, 1, behind=1)
    assert machine.repository.find_point("latest", None).point.id == machine.kept[-1].summary.point_id
    owner = ChainOwner.of_machine(machine.machine_id, machine.name)
    assert chain_problem(machine.repository, owner, machine.machine_id, None) == ""
    assert len(look(machine).chains) == 1
    [seen] = look_at(machine).chains
    assert (seen.name, seen.machine_name) == (one.chain, machine.name)


def test_what_was_begun_is_found_again_and_what_was_left_goes() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    until = clock.moment + timedelta(days=9)
    session = SessionId("archiving")
    begun = begin_archive(machine.repository, session, machine.snapshot(), machine.store, Archive(expires=until))
    folder = machine.repository.chain_folder(begun.chain)
    (machine.repository.files.remove)(folder / KEEP_NAME)  # as when it died between the two
    again = begin_archive(machine.repository, session, machine.snapshot(), machine.store, Archive(expires=until))
    assert (again.chain, again.point_id) == (begun.chain, begun.point_id)
    assert machine.repository.files.exists(folder / KEEP_NAME)
    other = begin_archive(machine.repository, SessionId("other"), machine.snapshot(), machine.store, Archive())
    assert other.removed == (begun.file,)
    removed = abandon_session(machine.repository, SessionId("other"), machine.snapshot().machine, machine.store)
    assert removed == (other.file,)
    machine.sessions += 1
    assert machine.back_up().kind == "increment"


def test_an_expired_archive_goes_to_the_graveyard_and_comes_back() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    kept = archived(machine, clock.moment + timedelta(days=9))
    gone = archived(machine, clock.moment + timedelta(days=1), VAULT)
    now = clock.moment + timedelta(days=2)
    found = plan_seen_archives(look_at(machine), now)
    [step] = found.steps
    assert (step.chain, step.points) == (gone.chain, (gone.point_id,))
    StepWorker(machine.repository, passphrases(VAULT), now).run(step, lambda *_: None)
    assert [chain.name for chain in look_at(machine).chains] == [kept.chain]
    folder = machine.repository.machine_folder(machine.machine_id, machine.name)
    far = now + timedelta(days=99)
    assert (
        purge_machine(machine.repository, folder, PurgeRule(now=far)).files == 0
    )  # which is what the retention of a job purges
    assert take_back(machine.repository, gone.chain, passphrases(VAULT), far) == (gone.file,)
    assert plan_seen_archives(look_at(machine), now).judgement.plan.is_idle  # its lock holds
    again = plan_seen_archives(look_at(machine), far)
    for step in again.steps:
        StepWorker(machine.repository, passphrases(VAULT if step.chain == gone.chain else None), far).run(
            step, lambda *_: None
        )
    assert archive_credentials(machine.repository) == ()  # of what is removed nothing has to be opened
    assert purge_archives(machine.repository, PurgeRule(now=far + timedelta(days=1))).files == 2
    assert look_at(machine).chains == ()


def test_a_lock_holds_an_archive_that_has_expired() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    one = archived(machine, clock.moment + timedelta(days=1))
    now = clock.moment + timedelta(days=2)
    [step] = plan_seen_archives(look_at(machine), now).steps
    lock_points(machine.repository, one.chain, [one.point_id], None, now + timedelta(days=5))
    assert plan_seen_archives(look_at(machine), now).steps == ()
    with pytest.raises(PointLocked):
        StepWorker(machine.repository, None, now).run(step, lambda *_: None)


def test_until_when_an_archive_is_kept_can_be_said_anew() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    one = archived(machine, clock.moment + timedelta(days=1), VAULT)
    late = clock.moment + timedelta(days=400)
    assert keep_archive(machine.repository, one.chain, passphrases(VAULT), None) == (one.point_id,)
    assert plan_seen_archives(look_at(machine), late).steps == ()
    keep_archive(machine.repository, one.chain, passphrases(VAULT), clock.moment)
    assert len(plan_seen_archives(look_at(machine), late).steps) == 1
    assert archive_credential(machine.repository.files, machine.repository.chain_folder(one.chain)) == VAULT
    with pytest.raises(RequestInvalid, match="is no archive"):
        keep_archive(machine.repository, machine.kept[0].summary.chain, None, None)


def test_an_archive_whose_note_is_lost_is_kept() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    one = archived(machine, clock.moment)
    folder = machine.repository.chain_folder(one.chain)
    machine.repository.files.remove(folder / KEEP_NAME)
    found = plan_seen_archives(look_at(machine), clock.moment + timedelta(days=999))
    assert [point.reason for point in found.judgement.plan.points] == ["archive, kept for ever"]
    keep_archive(machine.repository, one.chain, None, clock.moment)
    assert len(plan_seen_archives(look_at(machine), clock.moment + timedelta(days=1)).steps) == 1


def test_one_that_cannot_be_opened_is_left_out_and_hides_no_other() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    bad, good = archived(machine, clock.moment), archived(machine, clock.moment)
    machine.repository.files.remove(machine.repository.chain_folder(bad.chain) / "chain.hfm")
    path = machine.repository.chain_folder(bad.chain) / bad.file
    machine.repository.files.replace(path, b"x" * len(machine.repository.files.read(path)))
    seen = look_at(machine)
    assert [chain.name for chain in seen.chains] == [good.chain]
    assert len(seen.left_out) == 1
    assert bad.chain in seen.left_out[0]
    keep = machine.repository.chain_folder(good.chain) / KEEP_NAME
    forged = machine.repository.files.read(keep).replace(b'"credential":null', b'"credential":"lost"')
    machine.repository.files.replace(keep, forged)
    seen = look_at(machine)
    assert seen.chains == ()
    assert "no credential lost" in "".join(seen.left_out)


def test_nothing_of_a_job_is_noted_by_the_retention_of_archives() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 2)
    archived(machine)
    seen = look_at(machine)
    wish = PlanWish(options=RetentionOptions(only_archives=True), now=clock.moment)
    take_note(machine.repository, seen, plan_seen_archives(seen, clock.moment), wish)
    assert look(machine).rules is None
    assert look(machine).chains[0].notes == ()


def test_an_archive_that_is_carried_elsewhere_stays_one(tmp_path: Path) -> None:
    machine = on_disk(tmp_path / "repository")
    age(machine, 1)
    one = archived(machine)
    other = Repository.create(
        machine.repository.root.parent / "other", machine.repository.files, "id", machine.clock.now()
    )
    source = machine.repository.chain_folder(one.chain)
    brought = import_chain(other, source, None, lambda *_: None)
    assert is_archive(brought.chain)
    assert not brought.is_continued
    machine.repository = other
    assert machine.back_up().kind == "full"  # beside it
