"""What was begun is gone on with only from the same files; whatever else lies there is written anew."""

from pathlib import Path

import pytest

from holdfast.storage.chain_files.chain_file import SUSPECT_SUFFIX
from holdfast.storage.chains.chain import Chain
from holdfast.storage.methods.gathering import Needs
from holdfast.storage.methods.synthesis import synthesize
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.methods.test_synthesis import UNIT, chain_of, check, make_full, protected


class Enough(Exception):
    """The run is over for the moment."""


def cut_off(machine: ProtectedMachine, moved_bytes: int = 0) -> None:
    def stop(moved: int) -> None:
        if moved > moved_bytes:
            raise Enough(moved)

    with pytest.raises(Enough):
        synthesize(machine.repository, chain_of(machine), machine.store.passphrase, stop, UNIT)


@pytest.mark.parametrize("damage", [0, 5000])
def test_a_copy_that_cannot_be_read_is_made_anew(files: CrashFiles, damage: int) -> None:
    machine = protected(files)
    whole = make_full(protected(CrashFiles([files_root()])))
    cut_off(machine)
    path = next(path for path in files.paths() if path.name == "00000004-full.hfc")
    files.set_content(path, b"x" * damage)
    if damage:
        files.drop(path)
    files.set_content(path.with_name(path.name + SUSPECT_SUFFIX), b"left")
    assert make_full(machine).units == whole.units
    assert not files.exists(path.with_name(path.name + SUSPECT_SUFFIX))
    check(machine)


def files_root() -> Path:
    return Path("/")


def test_a_copy_that_is_complete_is_taken(files: CrashFiles) -> None:
    machine = protected(files)
    with Chain.open(files, machine.repository.chain_folder(chain_of(machine))) as chain:
        helper = files.content(chain.files[-1].path)
        path = chain.files[-1].path
    make_full(machine)
    files.set_content(path, helper)
    files.remove(path.parent / "chain.hfm")
    assert make_full(machine, machine.kept[0].summary.chain).units == 0
    check(machine)


def test_a_copy_that_is_gone_on_with_wants_room_for_the_rest_only(files: CrashFiles) -> None:
    machine = protected(files)
    with Chain.open(files, machine.repository.chain_folder(chain_of(machine))) as chain:
        room = Needs(chain, 4).room()
    files.quota = sum(len(files.content(path)) for path in files.paths()) + room + UNIT
    cut_off(machine, 4 * UNIT)
    assert make_full(machine).units > 0
    check(machine)
