"""Verification reads every stored byte and names what is damaged; the damage table in tests/fuzz tries every byte."""

import errno
from collections.abc import Iterable

import pytest

from holdfast.errors import OperationCancelled, StoreFailed
from holdfast.formats.digests import segment_digest
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.health.verifier import verify_chain
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles


@pytest.fixture
def machine(machine: ProtectedMachine) -> ProtectedMachine:
    machine.back_up()
    machine.disks["disk0"].write(Span(PIECE_SIZE, PIECE_SIZE))
    machine.back_up()
    return machine


def chain_of(machine: ProtectedMachine) -> str:
    return machine.kept[0].summary.chain


def test_a_good_chain_is_good_and_every_unit_is_read_once(machine: ProtectedMachine) -> None:
    seen: list[int] = []
    with machine.repository.open_chain(chain_of(machine), None) as chain:
        report = verify_chain(chain, seen.append)
        units = sum(file.contents.units.count for file in chain.files)
    assert report.is_good
    assert (report.points, report.units) == (2, units)
    assert seen[-1] == report.stored_bytes > 7 * PIECE_SIZE


def test_only_what_the_wanted_points_use_is_read(machine: ProtectedMachine) -> None:
    with machine.repository.open_chain(chain_of(machine), None) as chain:
        first = verify_chain(chain, lambda _: None, numbers=[1])
        second = verify_chain(chain, lambda _: None, numbers=[2])
    assert (first.points, first.units) == (1, 2)
    assert (second.points, second.units) == (1, 3)


def test_an_empty_chain_is_good(machine: ProtectedMachine) -> None:
    with machine.repository.open_chain(chain_of(machine), None) as chain:
        assert verify_chain(chain, lambda _: None, numbers=[99]).points == 0


def test_a_verification_can_be_stopped(machine: ProtectedMachine, files: CrashFiles) -> None:
    def stop(_: int) -> None:
        raise OperationCancelled("enough")

    with machine.repository.open_chain(chain_of(machine), None) as chain, pytest.raises(OperationCancelled):
        verify_chain(chain, stop)
    assert not files.open_handles


def test_a_place_that_the_storage_cannot_read_is_damage_and_no_end(
    machine: ProtectedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine.repository.open_chain(chain_of(machine), None) as chain:
        bad = chain.files[0].unit(1)
        assert bad is not None
        handle = chain.files[0].handle
        real = handle.read

        def read(offset: int, length: int) -> bytes:
            if offset < bad.offset + bad.length and bad.offset < offset + length:
                raise StoreFailed(f"{handle.path}: {errno.errorcode[errno.EIO]}")
            return real(offset, length)

        monkeypatch.setattr(handle, "read", read)
        report = verify_chain(chain, lambda _: None)
    assert {(d.point, d.offset, d.length) for d in report.damages} == {
        (1, 4 * PIECE_SIZE, 2 * PIECE_SIZE),
        (2, 4 * PIECE_SIZE, 2 * PIECE_SIZE),
    }


def test_pieces_that_are_intact_and_not_those_of_the_point_are_found(
    machine: ProtectedMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A writer that enters a piece under a wrong number leaves every sum of every record right.
    real = ChainWriter.add_pieces

    def add_pieces(self: ChainWriter, disk: int, places: Iterable[tuple[int, int]]) -> None:
        real(self, disk, [(piece, place - (piece == 2)) for piece, place in places])

    machine.disks["disk0"].write(Span(0, 4 * PIECE_SIZE))
    monkeypatch.setattr(ChainWriter, "add_pieces", add_pieces)
    machine.back_up()
    monkeypatch.undo()
    with machine.repository.open_chain(chain_of(machine), None) as chain:
        report = verify_chain(chain, lambda _: None)
    assert [(d.point, d.offset, d.length, d.reason) for d in report.damages] == [
        (3, 0, 6 * PIECE_SIZE, "the pieces are not those of the point")
    ]


def test_damage_beyond_what_is_named_is_counted(machine: ProtectedMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.storage.health.verifier._DAMAGES_MAX", 1)
    files = machine.repository.files
    assert isinstance(files, CrashFiles)
    path = machine.repository.chain_folder(chain_of(machine)) / machine.kept[0].summary.file
    with ChainFile.open(files, path) as file:
        entries = [file.unit(number) for number in range(2)]
    data = bytearray(files.content(path))
    for entry in entries:
        assert entry is not None
        data[entry.offset + 200] ^= 1
    files.set_content(path, bytes(data))
    with machine.repository.open_chain(chain_of(machine), None) as chain:
        report = verify_chain(chain, lambda _: None)
    assert len(report.damages) == 1
    assert report.unnamed_damages > 0
    assert not report.is_good


def test_a_segment_of_zeros_has_the_digest_of_zeros() -> None:
    for zeros in (bytes(16384), bytearray(16384)):
        assert segment_digest(zeros, bytes(32)) == bytes(16)
    assert segment_digest(bytes(16383) + b"\1", bytes(32)) != bytes(16)
