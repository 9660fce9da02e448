"""Scrubs and repairs as activities: slices, what a dead attempt left, passphrases, and what is told."""

import dataclasses
import threading
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from activities import pulse
from activities.contracts import health as contract
from activities.health import HealthActivities, is_damaged, joined_repairs, passphrase_of
from holdfast.errors import ChainBusy, CredentialMissing, OperationInterrupted, PassphraseWrong, RepositoryNotFound
from holdfast.model.health import RepairReport
from holdfast.model.ids import CredentialName, RepositoryName
from holdfast.model.machine import Machine
from holdfast.model.points import Health, PointSummary
from holdfast.model.reads import ReadSpan
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.health.health_file import read_health
from tests.activities.lab import CREDENTIAL, PIECE, STORE, Attempt, Lab, StillClock, failure, run

EVERYTHING = 1 << 62


def scrub(**changes: object) -> contract.ScrubSlice:
    return msgspec.structs.replace(
        contract.ScrubSlice(repository=STORE, credentials=(CREDENTIAL,), left_bytes=EVERYTHING), **changes
    )


def repair(**changes: object) -> contract.RepairChains:
    return msgspec.structs.replace(contract.RepairChains(repository=STORE, credentials=(CREDENTIAL,)), **changes)


def reads(lab: Lab, point: PointSummary) -> tuple[ReadSpan, ...]:
    health = read_health(lab.repository.files, lab.repository.chain_folder(point.chain))
    return tuple(span for file in health.files for span in file.reads)


def damage(lab: Lab, machine: Machine, point: PointSummary) -> None:
    content = lab.chain_file(point).read_bytes()
    at = content.index(lab.content(machine)[100:200])
    lab.chain_file(point).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def test_a_sound_repository_is_read_whole(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    report = run(lab.health.scrub, scrub())
    assert report.is_good
    assert report.is_done
    assert report.done_bytes == report.stored_bytes
    assert report.oldest is not None
    assert report.oldest > point.created
    assert reads(lab, point)


def test_slices_go_on_where_the_one_before_stopped(lab: Lab) -> None:
    lab.back_up(lab.add_machine())
    lab.back_up(lab.add_machine("mail"))
    first = run(lab.health.scrub, scrub(slice_bytes=1))
    assert 0 < first.done_bytes < first.planned_bytes
    left = first.planned_bytes - first.done_bytes
    second = run(lab.health.scrub, scrub(left_bytes=left))
    assert first.done_bytes + second.done_bytes == first.planned_bytes


def test_another_attempt_goes_on_with_what_the_dead_one_had_not_read(lab: Lab) -> None:
    lab.back_up(lab.add_machine())
    lab.back_up(lab.add_machine("mail"))
    first = run(lab.health.scrub, scrub(slice_bytes=1))
    cursor = contract.ScrubCursor(
        chain="",
        planned_bytes=first.planned_bytes,
        done_bytes=first.done_bytes,
        checked_bytes=first.checked_bytes,
    )
    report = Attempt(previous=cursor).run(lab.health.scrub, scrub())
    assert (report.planned_bytes, report.done_bytes) == (first.planned_bytes, first.planned_bytes)
    assert report.checked_bytes > first.checked_bytes


def test_what_a_dead_attempt_read_and_did_not_tell_is_not_read_again(lab: Lab) -> None:
    lab.back_up(lab.add_machine())
    lab.back_up(lab.add_machine("mail"))
    began = lab.clock.now()
    first = run(lab.health.scrub, scrub(slice_bytes=1))
    silent = contract.ScrubCursor(chain="", planned_bytes=first.planned_bytes, done_bytes=0, checked_bytes=0)
    report = Attempt(previous=silent).run(lab.health.scrub, scrub(began=began))
    assert report.is_done
    assert report.done_bytes == first.planned_bytes
    assert report.checked_bytes < first.planned_bytes - first.done_bytes


def test_progress_is_told_with_the_chain(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    attempt = Attempt()
    attempt.run(lab.health.scrub, scrub())
    last = attempt.beats[-1]
    assert isinstance(last, contract.ScrubCursor)
    assert (last.chain, last.done_bytes) == (point.chain, last.planned_bytes)


def test_damage_is_marked_and_the_next_run_repairs_it(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    damage(lab, machine, first)
    found = run(lab.health.scrub, scrub())
    assert not found.is_good
    assert [(point.point_id, point.state) for point in found.points] == [(first.point_id, Health.DAMAGED)]
    assert is_damaged(lab.repository, first.chain, [None])
    lost = run(lab.health.repair, repair())
    assert [(one.point, one.offset) for one in lost.damages] == [(1, 0)]
    request = lab.begun(machine, "s2")
    assert request.point.damaged
    run(lab.transfers.copy_disk, request)
    lab.finish(request.point)
    report = run(lab.health.repair, repair(chain=first.chain))
    assert report.is_good
    assert report.from_chain == report.repaired_pieces > 0
    assert [point.state for point in report.points] == [Health.USABLE]
    assert run(lab.health.repair, repair()) == RepairReport()


def test_another_chain_of_the_machine_gives_lost_bytes_back(lab: Lab) -> None:
    machine = lab.add_machine()
    _, first = lab.back_up(machine)
    snapshot = lab.freeze(machine, "s2")
    begun = run(lab.points.begin_point, msgspec.structs.replace(lab.begin_request(snapshot), full=True))
    run(lab.transfers.copy_disk, lab.copy_request(snapshot, begun))
    lab.finish(begun)
    damage(lab, machine, first)
    run(lab.health.scrub, scrub())
    report = run(lab.health.repair, repair())
    assert report.is_good
    assert report.from_chains == report.repaired_pieces > 0


def test_encrypted_and_plain_chains_are_looked_after_together(lab: Lab) -> None:
    machine = lab.add_machine("mail")
    _, plain = lab.back_up(lab.add_machine())
    snapshot = lab.freeze(machine, "s2")
    begun = run(lab.points.begin_point, lab.begin_request(snapshot, CREDENTIAL))
    copy = msgspec.structs.replace(lab.copy_request(snapshot, begun), credential=CREDENTIAL)
    run(lab.transfers.copy_disk, copy)
    lab.finish(begun, CREDENTIAL)
    assert run(lab.health.scrub, scrub()).chains == 2
    closed = run(lab.health.scrub, scrub(credentials=()))
    assert (closed.chains, [one.chain for one in closed.closed]) == (1, [begun.chain])
    assert closed.closed[0].code == PassphraseWrong.code
    missing = run(lab.health.scrub, scrub(credentials=(CredentialName("lost"),)))
    assert (missing.chains, [one.code for one in missing.closed]) == (1, [CredentialMissing.code])
    secret = lab.credentials.passphrase(CREDENTIAL)
    assert passphrase_of(lab.repository, begun.chain, [None, secret]) == secret
    assert passphrase_of(lab.repository, plain.chain, [None, secret]) is None
    with pytest.raises(PassphraseWrong):
        passphrase_of(lab.repository, begun.chain, [None])


def test_a_chain_whose_passphrase_is_not_there_keeps_no_other_from_its_repair(lab: Lab) -> None:
    _, plain = lab.back_up(lab.add_machine())
    snapshot = lab.freeze(lab.add_machine("mail"), "s2")
    begun = run(lab.points.begin_point, lab.begin_request(snapshot, CREDENTIAL))
    run(lab.transfers.copy_disk, msgspec.structs.replace(lab.copy_request(snapshot, begun), credential=CREDENTIAL))
    lab.finish(begun, CREDENTIAL)
    (lab.repository.chain_folder(plain.chain) / "chain.hfm").write_bytes(b"nothing")
    report = run(lab.health.repair, repair(credentials=()))
    assert report.metadata == (plain.chain,)
    assert [damage.chain for damage in report.damages] == [begun.chain]


def lose_metadata(lab: Lab, point: PointSummary) -> None:
    (lab.repository.chain_folder(point.chain) / "chain.hfm").write_bytes(b"nothing")


def attempt_number(number: int, previous: object = None) -> Attempt:
    attempt = Attempt(previous)
    attempt.environment.info = dataclasses.replace(attempt.environment.info, attempt=number)
    return attempt


def test_a_chain_that_is_being_written_is_tried_again_behind_the_others(lab: Lab) -> None:
    points = [lab.back_up(lab.add_machine(name))[1] for name in ("db", "web")]
    for point in points:
        lose_metadata(lab, point)
    lock = acquire_chain_lock(lab.repository.files, lab.repository.chain_folder(points[0].chain))
    first = Attempt()
    try:
        failure(ChainBusy, lab.health.repair, repair(), first)
    finally:
        lock.close()
    report = Attempt(previous=first.beats[-1]).run(lab.health.repair, repair())
    assert report.is_good
    assert sorted(report.metadata) == [point.chain for point in points]


def test_a_chain_that_is_written_for_long_is_left_to_the_next_repair(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    lose_metadata(lab, point)
    lock = acquire_chain_lock(lab.repository.files, lab.repository.chain_folder(point.chain))
    try:
        report = attempt_number(20).run(lab.health.repair, repair())
    finally:
        lock.close()
    assert "not repaired" in report.damages[0].reason
    assert run(lab.health.repair, repair()).metadata == (point.chain,)


def test_a_chain_that_cannot_be_written_holds_up_no_other(lab: Lab) -> None:
    points = [lab.back_up(lab.add_machine(name))[1] for name in ("web", "mail")]
    folders = {point.chain: lab.repository.chain_folder(point.chain) for point in points}
    for folder in folders.values():
        (folder / "chain.hfm").write_bytes(b"nothing")
    first, second = sorted(folders)
    (folders[first] / "chain.health.lock").mkdir()
    report = run(lab.health.repair, repair())
    [damage] = report.damages
    assert (damage.chain, "not repaired" in damage.reason) == (first, True)
    assert report.metadata == (second,)


def test_another_attempt_tells_what_the_dead_one_repaired(lab: Lab) -> None:
    points = [lab.back_up(lab.add_machine(name))[1] for name in ("db", "web")]
    for point in points:
        lose_metadata(lab, point)
    dying = Attempt()

    def die(cursor: object) -> None:
        assert isinstance(cursor, contract.RepairCursor)
        if cursor.done:
            dying.environment.worker_shutdown()

    dying.on_beat = die
    failure(OperationInterrupted, lab.health.repair, repair(), dying)
    assert is_damaged(lab.repository, points[1].chain, [None])
    report = Attempt(previous=dying.beats[-1]).run(lab.health.repair, repair())
    assert (report.chains, sorted(report.metadata)) == (2, [point.chain for point in points])


class SlowRepository(Repository):
    """Takes days to list its chains, as one with very many on slow storage; the clock says so at once."""

    clock: StillClock
    beaten: threading.Event

    @override
    @override
    def chain_folders(self, machine_folder: Path | None = None) -> list[Path]:
        for _ in range(3):
            self.clock.seconds += 86400
            self.beaten.clear()
            assert self.beaten.wait(20)
        return super().chain_folders(machine_folder)


@pytest.mark.parametrize("task", ["scrub", "repair"])
def test_looking_for_what_is_to_be_done_may_take_long(lab: Lab, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "_INTERVAL_S", 0.005)
    lab.back_up(lab.add_machine())
    attempt, clock = Attempt(), StillClock()
    repository = SlowRepository.open(lab.root / "repository", HostFiles())
    assert isinstance(repository, SlowRepository)
    repository.clock, repository.beaten = clock, threading.Event()
    attempt.environment.on_heartbeat = lambda *_: repository.beaten.set()
    activities = HealthActivities(lambda _: repository, lab.credentials.passphrase, clock)
    if task == "scrub":
        assert attempt.run(activities.scrub, scrub()).is_good
    else:
        assert attempt.run(activities.repair, repair()) == RepairReport()


def test_a_chain_none_of_whose_files_opens_is_named(lab: Lab) -> None:
    _, point = lab.back_up(lab.add_machine())
    lab.chain_file(point).write_bytes(b"\xff" * PIECE)
    assert not run(lab.health.scrub, scrub()).is_good
    assert not run(lab.health.repair, repair()).is_good
    assert passphrase_of(lab.repository, point.chain, [None]) is None


def test_an_unknown_repository_is_refused(lab: Lab) -> None:
    failure(RepositoryNotFound, lab.health.scrub, scrub(repository=RepositoryName("other")))
    failure(RepositoryNotFound, lab.health.repair, repair(repository=RepositoryName("other")))


def test_repairs_add_up() -> None:
    one = RepairReport(chains=1, rebuilt=("a",), repaired_pieces=2, from_copies=2)
    both = joined_repairs(one, RepairReport(chains=1, metadata=("b",), unnamed_damages=3))
    assert (both.chains, both.rebuilt, both.metadata, both.unnamed_damages) == (2, ("a",), ("b",), 3)
    assert (both.repaired_pieces, both.from_copies) == (2, 2)
