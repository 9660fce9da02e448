"""What earlier sessions left is removed, and nothing that ever was complete."""

from pathlib import Path

import pytest

from holdfast.errors import ChainBroken, ChainBusy, FileDamaged
from holdfast.formats.magic import SUPERBLOCK_SIZE
from holdfast.model.ids import SessionId
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.leftovers import remove_leftovers
from holdfast.storage.chains.metadata import METADATA_NAME
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles


@pytest.fixture
def folder(machine: ProtectedMachine) -> Path:
    """A chain with one finished point and one that was only begun."""
    summary = machine.back_up()
    machine.sessions = 7
    machine.begin()
    return machine.repository.chain_folder(summary.chain)


def test_an_unfinished_file_goes_and_a_finished_one_stays(files: CrashFiles, folder: Path) -> None:
    assert remove_leftovers(files, folder, None) == ("00000002-increment.hfc",)
    assert remove_leftovers(files, folder, None) == ()
    assert [path.name for path in files.paths() if path.suffix == ".hfc"] == ["00000001-full.hfc"]
    assert not files.open_handles


def test_only_the_files_of_the_session_go(files: CrashFiles, folder: Path) -> None:
    assert remove_leftovers(files, folder, None, SessionId("session-1")) == ()
    assert remove_leftovers(files, folder, None, SessionId("session-7")) == ("00000002-increment.hfc",)


def test_what_holds_nothing_and_what_was_set_aside_goes_too(files: CrashFiles, folder: Path) -> None:
    files.set_content(folder / "00000003-increment.hfc", b"")
    files.set_content(folder / "00000002-increment.hfc.suspect", b"anything")
    assert set(remove_leftovers(files, folder, None)) == {
        "00000002-increment.hfc",
        "00000002-increment.hfc.suspect",
        "00000003-increment.hfc",
    }


def test_a_transfer_that_still_runs_keeps_its_file(files: CrashFiles, folder: Path) -> None:
    with ChainWriter.resume(files, folder / "00000002-increment.hfc"), pytest.raises(ChainBusy):
        remove_leftovers(files, folder, None)
    assert files.exists(folder / "00000002-increment.hfc")


def test_a_file_that_became_complete_before_the_lock_was_taken_stays(
    files: CrashFiles, folder: Path, machine: ProtectedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish_first(files: CrashFiles, folder: Path) -> object:
        monkeypatch.undo()
        opened = machine.begin()
        machine.transfer(opened, "disk0")
        machine.finish(opened)
        return acquire_chain_lock(files, folder)

    monkeypatch.setattr("holdfast.storage.chains.leftovers.acquire_chain_lock", finish_first)
    assert remove_leftovers(files, folder, None) == ()
    assert machine.differences() == []


def rolled_back(files: CrashFiles, path: Path) -> bytes:
    """Return the file as its first commit left it."""
    early = bytearray()
    for event in [e for e in files.events if e.path == path and e.kind == "write"][:2]:
        early.extend(bytes(max(0, event.offset + len(event.data) - len(early))))
        early[event.offset : event.offset + len(event.data)] = event.data
    return bytes(early)


@pytest.mark.parametrize("witness", ["metadata", "child"])
def test_a_complete_file_that_was_rolled_back_is_not_taken_for_a_leftover(
    files: CrashFiles, machine: ProtectedMachine, witness: str
) -> None:
    folder = machine.repository.chain_folder(machine.back_up().chain)
    if witness == "child":
        machine.back_up()
        files.drop(folder / METADATA_NAME)
    path = folder / "00000001-full.hfc"
    files.set_content(path, rolled_back(files, path))
    with pytest.raises(ChainBroken, match=r"00000001-full\.hfc .* was rolled back"):
        remove_leftovers(files, folder, None)
    assert files.exists(path)


def test_a_complete_file_that_was_cut_to_nothing_is_not_removed_either(
    files: CrashFiles, machine: ProtectedMachine
) -> None:
    folder = machine.repository.chain_folder(machine.back_up().chain)
    machine.back_up()
    files.set_content(folder / "00000002-increment.hfc", b"")
    with pytest.raises(ChainBroken, match=r"00000002-increment\.hfc .* was rolled back"):
        remove_leftovers(files, folder, None)


@pytest.mark.parametrize("damaged", ["file", "metadata"])
def test_nothing_is_removed_while_a_witness_is_damaged(files: CrashFiles, folder: Path, damaged: str) -> None:
    path = folder / (METADATA_NAME if damaged == "metadata" else "00000001-full.hfc")
    data = bytearray(files.content(path))
    for at in (20, SUPERBLOCK_SIZE + 20):
        if at < len(data):
            data[at] ^= 1
    files.set_content(path, bytes(data))
    with pytest.raises(FileDamaged):
        remove_leftovers(files, folder, None)
    assert files.exists(folder / "00000002-increment.hfc")
