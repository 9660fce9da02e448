"""Pieces stored lately are known by their digest, in bounded memory."""

import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chain_files import known_pieces
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.known_pieces import KnownPieces
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles


@pytest.fixture
def writer(machine: ProtectedMachine, files: CrashFiles) -> ChainWriter:
    summary = machine.back_up()
    return ChainWriter.resume(files, machine.repository.chain_folder(summary.chain) / summary.file)


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_piece_is_found_by_its_digest(writer: ChainWriter) -> None:
    known = KnownPieces(writer)
    known.add(digest(1), 77)
    assert (known.find(digest(1)), known.find(digest(2))) == (77, None)


def test_what_the_file_holds_is_known_from_the_start(writer: ChainWriter) -> None:
    known = KnownPieces(writer)
    assert [known.find(writer.digest(place)) for place in range(6)] == list(range(6))


def test_the_older_half_is_forgotten(writer: ChainWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_pieces, "_GENERATION_SIZE", 100)
    known = KnownPieces(writer)
    for number in range(1, 1001):
        known.add(digest(number), number)
    found = [number for number in range(1, 1001) if known.find(digest(number)) is not None]
    assert found == list(range(1001 - len(found), 1001))
    assert 100 <= len(found) <= 200


def test_content_that_occurs_twice_is_stored_once(machine: ProtectedMachine) -> None:
    # A second disk with the content of the first: same seed, same sectors.
    machine.disks["copy"] = machine.disks["disk0"].copy()
    summary = machine.back_up()
    with machine.repository.open_chain(summary.chain, None) as chain:
        assert chain.files[0].contents.units.count == 2
        assert chain.files[0].superblock.end < 8 * PIECE_SIZE + (1 << 17)
    assert machine.differences() == []
    machine.disks["disk0"].zero(Span(0, PIECE_SIZE))
    machine.back_up()
    assert machine.differences() == []


def test_what_a_merge_has_dropped_is_not_known(machine: ProtectedMachine, files: CrashFiles) -> None:
    key = next(iter(machine.disks))
    first = machine.back_up()
    machine.disks[key].write(Span(0, machine.disks[key].size_bytes))
    second = machine.back_up()
    folder = machine.repository.chain_folder(first.chain)
    with machine.repository.open_chain(first.chain, None) as chain:
        old, new = (chain.disk(point.number, key).piece_digests(0, 1) for point in (first, second))
    ChainUpkeep(files, folder, None).merge(first.file, second.file)
    with ChainWriter.resume(files, folder / first.file) as writer:
        known = KnownPieces(writer)
        assert known.find(bytes(old)) is None
        assert known.find(bytes(new)) is not None
