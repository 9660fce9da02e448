"""A chain file is opened by its newest valid superblock and read on demand."""

import zlib
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from holdfast.errors import ChainBroken, DataDamaged, FileDamaged, FormatTooNew, FormatUnknown, PassphraseWrong
from holdfast.formats.keys import ChainKeys, plain_keys
from holdfast.formats.magic import RECORDS_START, SUPERBLOCK_SIZE
from holdfast.formats.superblock import pack_superblock, unpack_superblock
from holdfast.storage.chain_files.chain_file import ChainFile, is_file_encrypted, is_never_committed, read_states
from holdfast.testing.chains import CHEAP, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine

PASSPHRASE = "correct horse"


def finished(machine: ProtectedMachine) -> Path:
    summary = machine.back_up()
    return machine.repository.chain_folder(summary.chain) / summary.file


def with_slot(files: CrashFiles, path: Path, slot: int, block: bytes) -> None:
    data = bytearray(files.content(path))
    data[slot * SUPERBLOCK_SIZE : (slot + 1) * SUPERBLOCK_SIZE] = block
    files.set_content(path, bytes(data))


def slot_of(files: CrashFiles, path: Path, slot: int) -> bytes:
    return files.content(path)[slot * SUPERBLOCK_SIZE : (slot + 1) * SUPERBLOCK_SIZE]


def keys_of(files: CrashFiles, path: Path, passphrase: str | None) -> ChainKeys:
    with ChainFile.open(files, path, passphrase) as file:
        return file.keys


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_either_superblock_of_a_complete_file_is_enough(files: CrashFiles, lost: int, passphrase: str | None) -> None:
    machine = make_machine({"disk0": 6}, files, passphrase)
    path = finished(machine)
    with_slot(files, path, lost, bytes(SUPERBLOCK_SIZE))
    with ChainFile.open(files, path, passphrase) as file:
        assert (file.is_complete, file.complete_slots) == (True, 1)
    assert machine.differences() == []


def test_a_wrong_passphrase_says_so(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files, PASSPHRASE))
    for wrong in ("wrong horse", "", None):
        with pytest.raises(PassphraseWrong):
            ChainFile.open(files, path, wrong)
    assert not files.open_handles


def test_a_wrong_passphrase_and_a_damaged_slot_is_a_wrong_passphrase(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files, PASSPHRASE))
    with_slot(files, path, 1, bytes(SUPERBLOCK_SIZE))
    with pytest.raises(PassphraseWrong):
        ChainFile.open(files, path, "wrong horse")


def test_after_an_interrupted_change_of_the_passphrase_either_one_opens_the_file(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files, PASSPHRASE))
    keys = keys_of(files, path, PASSPHRASE)
    changed = keys.rewrapped("new horse", bytes(28), CHEAP)
    block = unpack_superblock(slot_of(files, path, 0))
    with_slot(files, path, 0, pack_superblock(msgspec.structs.replace(block, envelope=changed.envelope), changed))
    for passphrase in (PASSPHRASE, "new horse"):
        with ChainFile.open(files, path, passphrase) as file:
            assert file.is_complete


def test_a_file_for_a_newer_reader_is_refused_as_such(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files))
    keys = keys_of(files, path, None)
    for slot in range(2):
        data = bytearray(slot_of(files, path, slot))
        data[10] = 2
        block = resealed(bytes(data), keys)
        with_slot(files, path, slot, block)
    with pytest.raises(FormatTooNew, match=str(path)):
        ChainFile.open(files, path)


def resealed(data: bytes, keys: ChainKeys) -> bytes:
    """Return a superblock with the checksum and seal its bytes should have."""
    body = data[:4060] + zlib.crc32(data[:4060]).to_bytes(4, "little")
    return body + blake3(body, key=keys.seal_key(data[48:64])).digest()


def test_a_file_of_another_chain_is_refused_with_both_names(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files))
    with pytest.raises(ChainBroken, match=f"not {bytes(16).hex()}"):
        ChainFile.open(files, path, keys=plain_keys(bytes(16)))


def test_a_slot_from_another_chain_does_not_hide_the_own_one(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files))
    other_files = CrashFiles([Path("/")])
    other = finished(make_machine({"disk0": 2}, other_files))
    for slot in range(2):
        own = slot_of(files, path, slot)
        with_slot(files, path, slot, slot_of(other_files, other, slot))
        with ChainFile.open(files, path) as file:
            assert file.is_complete
            assert file.contents.chain == unpack_superblock(own).chain_id.hex()
        with_slot(files, path, slot, own)


def test_contents_of_another_file_are_refused(files: CrashFiles) -> None:
    machine = make_machine({"disk0": 2}, files)
    path = finished(machine)
    with ChainFile.open(files, path) as file:
        block = file.superblock
        keys = file.keys
    forged = msgspec.structs.replace(block, file_id=bytes(16))
    handle = files.open(path)
    with pytest.raises(FileDamaged, match="do not belong together"):
        ChainFile(handle, keys, forged, 2)
    handle.close()


def test_nothing_and_garbage_are_no_chain_files(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files))
    for content in (b"", b"x", bytes(100_000), b"garbage" * 10_000):
        files.set_content(path, content)
        with pytest.raises(FormatUnknown, match="is not a chain file"):
            ChainFile.open(files, path)
    assert not files.open_handles


def test_a_unit_that_should_lie_behind_the_end_is_damage(files: CrashFiles) -> None:
    path = finished(make_machine({"disk0": 2}, files))
    handle = files.open(path)
    (keys, block), *_ = read_states(handle, None)
    with_short_end = msgspec.structs.replace(block, end=RECORDS_START)
    file = ChainFile(handle, keys, with_short_end, 2)
    with pytest.raises(DataDamaged, match=r"unit 0 .* behind the end"):
        file.read_unit(0)
    with pytest.raises(DataDamaged, match="unit 99 is not in"):
        file.read_unit(99)
    file.close()


def test_what_was_made_and_never_committed_is_recognised(files: CrashFiles) -> None:
    machine = make_machine({"disk0": 2}, files)
    machine.sessions = 1
    opened = machine.begin()
    path = machine.repository.chain_folder(opened.chain) / opened.file
    data = files.content(path)
    torn = data[:SUPERBLOCK_SIZE] + data[SUPERBLOCK_SIZE : SUPERBLOCK_SIZE + 512] + bytes(3584) + data[8192:]
    for content in (b"", bytes(8192), bytes(8192) + data[8192:], bytes(8192) + data[8192:8704], torn):
        files.set_content(path, content)
        assert is_never_committed(files, path)
    files.set_content(path, data)
    assert not is_never_committed(files, path)
    assert not files.open_handles


def test_a_file_that_lost_its_superblocks_is_not_taken_for_one_without_content(files: CrashFiles) -> None:
    # Salvage can bring it back; removing it would be the loss.
    path = finished(make_machine({"disk0": 2}, files))
    files.set_content(path, bytes(RECORDS_START) + files.content(path)[RECORDS_START:])
    assert not is_never_committed(files, path)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_encryption_is_told_without_the_passphrase(files: CrashFiles, passphrase: str | None) -> None:
    path = finished(make_machine({"disk0": 2}, files, passphrase))
    assert is_file_encrypted(files, path) is (passphrase is not None)
    with_slot(files, path, 0, bytes(SUPERBLOCK_SIZE))
    assert is_file_encrypted(files, path) is (passphrase is not None)
    with_slot(files, path, 1, bytes(SUPERBLOCK_SIZE))
    assert is_file_encrypted(files, path) is None
