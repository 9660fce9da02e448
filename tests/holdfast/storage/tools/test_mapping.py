"""A machine that came back under another id goes on with its chains, and one that was renamed keeps them."""

import random
import shutil
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import ChainBroken, ChainBusy, MachineNotFound, PassphraseWrong, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import MachineId, SessionId, folder_name
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.tools.mapping import JobRules, NewOwner, OwnerChanged, change_owner
from tests.holdfast.storage.driving import CLOCK, back_up, restored, snapshot_of

FILES = HostFiles()
CONTENT = [random.Random(seed).randbytes(5 * PIECE_SIZE) for seed in range(5)]
OLD, NEW = MachineId("m1"), MachineId("m2")
FOLDER = folder_name("web 01", OLD)
PASSPHRASE = "open sesame"
UNIT = 256 << 10


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "repository", FILES, "ab" * 16, CLOCK.now())


def give(
    repository: Repository, passphrase: str | None = None, job: JobRules | None = None, **changes: str
) -> OwnerChanged:
    wanted = NewOwner(folder=FOLDER, machine_id=NEW, machine_name="web 02")
    return change_owner(repository, msgspec.structs.replace(wanted, **changes), [passphrase], job)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_mapped_machine_goes_on_with_an_increment_that_is_compared(
    repository: Repository, passphrase: str | None
) -> None:
    back_up(repository, CONTENT[0], 1, passphrase)
    before = back_up(repository, CONTENT[1], 2, passphrase)
    given = give(repository, passphrase, JobRules(unit_size=UNIT, passphrase=passphrase))
    assert given.folder == folder_name("web 02", NEW)
    [chain] = given.chains
    assert (chain.points, chain.chain_id) == (2, before.chain_id)
    new = snapshot_of(CONTENT[2], 3, machine_id=NEW, name="web 02")
    options = StoreOptions(unit_size=UNIT, passphrase=passphrase)
    opened = begin_point(repository, SessionId("session-3"), new, options)
    assert (opened.kind, opened.number, opened.chain) == ("increment", 3, chain.chain)
    assert "mapped to machine m2" in opened.compares
    assert begin_point(repository, SessionId("session-3"), new, options).compares == opened.compares
    third = back_up(repository, CONTENT[2], 3, passphrase, machine_id=NEW, name="web 02")
    assert (third.machine_id, third.machine_name, third.kind) == (NEW, "web 02", "increment")
    fourth = back_up(repository, CONTENT[3], 4, passphrase, machine_id=NEW, name="web 02")
    assert (fourth.kind, fourth.number) == ("increment", 4)
    listed = list(repository.points(passphrase, NEW))
    assert [found.point.machine.name for found in listed] == ["web 02"] * 4
    assert repository.find_point("latest", passphrase, NEW).point.captured_machine().machine_id == NEW
    assert restored(repository, third, passphrase) == CONTENT[2]
    assert restored(repository, fourth, passphrase) == CONTENT[3]
    assert restored(repository, before, passphrase) == CONTENT[1]  # by the name it had


def test_only_the_first_point_after_a_mapping_is_compared(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    give(repository)
    back_up(repository, CONTENT[1], 2, None, machine_id=NEW, name="web 02")
    third = begin_point(repository, SessionId("s"), snapshot_of(CONTENT[2], 3, NEW), StoreOptions(unit_size=UNIT))
    assert (third.kind, third.compares) == ("increment", "")


def test_a_mapping_may_be_repeated_and_taken_further(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    given = give(repository)
    assert give(repository) == given
    third = give(repository, folder=given.folder, machine_id="m3", machine_name="web 03")
    assert back_up(repository, CONTENT[1], 2, None, machine_id=MachineId("m3")).number == 2
    home = give(repository, folder=third.folder, machine_id=OLD, machine_name="web 01")
    assert home.folder == FOLDER
    assert back_up(repository, CONTENT[2], 3, None).number == 3


def test_a_rename_keeps_the_machine_and_the_trust_in_its_change_ids(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    given = give(repository, machine_id=OLD, machine_name="front")
    assert given.folder == folder_name("front", OLD)
    assert [found.point.machine.name for found in repository.points(None, "front")] == ["front"]
    second = begin_point(repository, SessionId("s"), snapshot_of(CONTENT[1], 2), StoreOptions(unit_size=UNIT))
    assert (second.kind, second.compares) == ("increment", "")


def test_a_reader_keeps_what_it_has_open(repository: Repository) -> None:
    point = back_up(repository, CONTENT[0], 1, None)
    with repository.open_chain(point.chain, None) as chain:
        give(repository)
        disk = chain.disk(1, chain.points()[0][1].disks[0].key)
        assert disk.piece_digests(0, 1)
        assert restored(repository, point, None) == CONTENT[0]


def test_a_full_made_of_a_mapped_chain_is_of_its_owner_too(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    back_up(repository, CONTENT[1], 2, None)
    [chain] = give(repository).chains
    made, _ = synthesize(repository, chain.chain, None, lambda _: None)
    assert (made.machine_id, made.kind) == (NEW, "full")
    assert made.chain != chain.chain
    following = back_up(repository, CONTENT[2], 3, None, machine_id=NEW)
    assert (following.chain, following.kind) == (made.chain, "increment")
    assert restored(repository, following, None) == CONTENT[2]


def test_a_machine_with_chains_of_its_own_is_refused(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    back_up(repository, CONTENT[1], 2, None, machine_id=NEW)
    with pytest.raises(RequestInvalid, match="chains of its own"):
        give(repository)
    assert back_up(repository, CONTENT[2], 3, None).number == 2


def test_a_folder_without_chains_makes_way(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    there = repository.machine_at(folder_name("old name", NEW))
    FILES.make_folder(there / "000001-00000000")
    FILES.replace(there / "retention.json", b"{}")
    FILES.replace(there / "000001-00000000" / "chain.hfm", b"")
    give(repository)
    assert not there.exists()


def test_what_can_be_taken_back_makes_no_way(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    there = repository.machine_at(folder_name("web 02", NEW)) / "000001-00000000"
    FILES.make_folder(there)
    FILES.replace(there / "00000001-full.hfc.removed-20260101T000000Z", b"x")
    with pytest.raises(RequestInvalid, match="keeps what was removed"):
        give(repository)
    assert there.exists()
    assert back_up(repository, CONTENT[1], 2, None).number == 2


@pytest.mark.parametrize(
    "job, words",
    [
        (JobRules(unit_size=UNIT, passphrase="x"), "not encrypted, what the job writes is encrypted"),
        (JobRules(unit_size=1 << 20), "units of 262144 bytes"),
    ],
)
def test_a_job_that_would_begin_a_full_is_refused(repository: Repository, job: JobRules, words: str) -> None:
    back_up(repository, CONTENT[0], 1, None)
    with pytest.raises(RequestInvalid, match=words):
        give(repository, job=job)
    assert repository.machine_at(FOLDER).exists()


def test_another_passphrase_is_refused(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, PASSPHRASE)
    with pytest.raises(RequestInvalid, match="is encrypted, what the job writes is not encrypted"):
        give(repository, PASSPHRASE, JobRules(unit_size=UNIT))
    with pytest.raises(PassphraseWrong):
        give(repository, "another")
    with pytest.raises(PassphraseWrong):
        give(repository, PASSPHRASE, JobRules(unit_size=UNIT, passphrase="another"))
    assert back_up(repository, CONTENT[1], 2, PASSPHRASE).number == 2


def test_a_chain_that_is_written_is_left_alone(repository: Repository) -> None:
    point = back_up(repository, CONTENT[0], 1, None)
    lock = acquire_chain_lock(FILES, repository.chain_folder(point.chain))
    with pytest.raises(ChainBusy):
        give(repository)
    lock.close()
    give(repository)


def test_what_is_not_there_is_not_given(repository: Repository) -> None:
    with pytest.raises(MachineNotFound):
        give(repository)
    FILES.make_folder(repository.machine_at(FOLDER))
    with pytest.raises(MachineNotFound, match="no chain"):
        give(repository)


def test_a_chain_that_does_not_say_how_it_came_is_no_reason_for_a_full(repository: Repository) -> None:
    point = back_up(repository, CONTENT[0], 1, None)
    shutil.move(repository.chain_folder(point.chain).parent, repository.machine_at(folder_name("web", NEW)))
    with pytest.raises(ChainBroken, match="is of machine m1") as caught:
        back_up(repository, CONTENT[1], 2, None, machine_id=NEW)
    assert "chain map" in caught.value.hint


def test_a_lost_note_is_no_reason_for_a_full(repository: Repository) -> None:
    back_up(repository, CONTENT[0], 1, None)
    [chain] = give(repository).chains
    (repository.chain_folder(chain.chain) / "chain.keep").unlink()
    with pytest.raises(ChainBroken, match="is of machine m1"):
        back_up(repository, CONTENT[1], 2, None, machine_id=NEW)
    with Chain.open(FILES, repository.chain_folder(chain.chain), None) as opened:
        assert len(opened.points()) == 1
