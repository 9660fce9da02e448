"""What was removed: listed, brought back with a lock, deleted for good once its time is over."""

from datetime import timedelta

import msgspec
import pytest

from holdfast.errors import PassphraseWrong, PointNotFound
from holdfast.planning.grace import PurgeRule
from holdfast.planning.retention_steps import RetentionStep
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.storage.retention.graveyard import graves_of, lock_points, opening_passphrase, purge_machine, take_back
from holdfast.testing.chains import ProtectedMachine
from tests.holdfast.storage.aging import age, look, planned, points_rule
from tests.holdfast.storage.conftest import make_machine


def with_removed(passphrase: str | None = None) -> ProtectedMachine:
    """A machine whose third point was removed."""
    machine = make_machine({"disk0": 6}, passphrase=passphrase)
    clock = age(machine, 3)
    [chain] = look(machine).chains
    ChainUpkeep(machine.repository.files, chain.folder, passphrase).remove([chain.files[-1].name], clock.now())
    return machine


def test_what_was_removed_is_listed_with_its_bytes() -> None:
    [grave] = graves_of(with_removed().repository)
    assert grave.file.name == "00000003-increment.hfc"
    assert grave.chain.startswith(f"machines/{grave.machine_folder}/")
    assert grave.size_bytes > 0


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_what_is_taken_back_is_locked_so_that_it_stays(passphrase: str | None) -> None:
    machine = with_removed(passphrase)
    [chain] = look(machine).chains
    until = machine.clock.now() + timedelta(days=3)
    assert take_back(machine.repository, chain.name, passphrase, until) == ("00000003-increment.hfc",)
    assert machine.differences() == []
    [chain] = look(machine).chains
    assert [note.locked_until for note in chain.notes] == [until]
    with pytest.raises(PointNotFound):
        take_back(machine.repository, chain.name, passphrase, until)


def test_the_passphrase_that_opens_what_was_removed_is_found() -> None:
    machine = with_removed("open sesame")
    [chain] = look(machine).chains
    keys = (None, "wrong", "open sesame", "other")
    assert opening_passphrase(machine.repository, chain.name, keys) == "open sesame"
    with pytest.raises(PassphraseWrong):
        opening_passphrase(machine.repository, chain.name, keys[:2])


def test_a_damaged_file_does_not_tell_which_passphrase_fits() -> None:
    machine = with_removed("open sesame")
    [chain] = look(machine).chains
    [first, *_] = chain.files
    handle = machine.repository.files.open(chain.folder / first.name, write=True)
    handle.write(0, [b"\xff" * 8192])
    handle.close()
    assert opening_passphrase(machine.repository, chain.name, ("wrong", "open sesame")) == "open sesame"


def test_what_an_attempt_that_died_has_brought_back_is_locked_with_the_rest() -> None:
    machine = with_removed()
    [chain] = look(machine).chains
    until = machine.clock.now() + timedelta(days=3)
    back = ChainUpkeep(machine.repository.files, chain.folder, None).take_back()
    assert take_back(machine.repository, chain.name, None, until, back) == back
    [chain] = look(machine).chains
    assert [note.locked_until for note in chain.notes] == [until]


def test_a_longer_lock_stays() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 1)
    [chain] = look(machine).chains
    point = chain.files[0].point_id
    long, short = (clock.now() + timedelta(days=days) for days in (9, 2))
    for until in (long, short):
        lock_points(machine.repository, chain.name, [point], None, until)
    assert look(machine).chains[0].notes[0].locked_until == long


def test_a_point_that_was_removed_meanwhile_is_not_locked() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 2)
    [chain] = look(machine).chains
    ChainUpkeep(machine.repository.files, chain.folder, None).remove([chain.files[-1].name], clock.now())
    with pytest.raises(PointNotFound, match="any more"):
        lock_points(machine.repository, chain.name, [chain.files[-1].point_id], None, clock.now())


def test_the_grace_period_is_kept() -> None:
    machine = with_removed()
    clock = machine.clock.now()
    folder = look(machine).folder
    assert purge_machine(machine.repository, folder, PurgeRule(now=clock)).files == 0
    [grave] = graves_of(machine.repository)
    purged = purge_machine(machine.repository, folder, PurgeRule(now=clock + timedelta(seconds=1)))
    assert (purged.files, purged.freed_bytes) == (1, grave.size_bytes)
    assert graves_of(machine.repository) == []


def test_the_rule_that_removed_it_does_not_remove_it_again_while_it_is_locked() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 2)
    machine.store = msgspec.structs.replace(machine.store, full=True)
    age(machine, 1, behind=2)
    rule = points_rule(1)
    [step] = planned(machine, rule).steps
    upkeep = ChainUpkeep(machine.repository.files, machine.repository.chain_folder(step.chain), None)
    upkeep.remove(step.files, clock.now())
    take_back(machine.repository, step.chain, None, machine.clock.now() + timedelta(days=3))
    assert planned(machine, rule).steps == ()


def test_what_was_promised_when_it_was_removed_is_kept_by_shorter_rules() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 3)
    [chain] = look(machine).chains
    step = RetentionStep(chain=chain.name, files=(chain.files[-1].name,), points=(), size_bytes=0)
    StepWorker(machine.repository, None, clock.now(), grace_days=7).run(step, lambda *_: None)
    [grave] = graves_of(machine.repository)
    assert (grave.file.name, grave.grace_days) == (step.files[0], 7)
    folder, days = look(machine).folder, timedelta(days=1)
    assert purge_machine(machine.repository, folder, PurgeRule(now=clock.now() + 6 * days)).files == 0
    purged = purge_machine(machine.repository, folder, PurgeRule(now=clock.now() + 8 * days))
    assert (purged.files, purged.freed_bytes) == (1, grave.size_bytes)
