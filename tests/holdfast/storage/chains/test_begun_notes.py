"""A point may be noted when it is begun; what is noted already stays."""

from datetime import date

import msgspec

from holdfast.model.retention import PointNote
from holdfast.storage.chains.begun_notes import note_begun
from holdfast.storage.chains.keeping import read_notes
from holdfast.testing.chains import ProtectedMachine
from tests.holdfast.storage.conftest import make_machine


def notes_of(machine: ProtectedMachine, chain: str) -> tuple[PointNote, ...]:
    with machine.repository.open_chain(chain, None) as opened:
        keys = opened.files[0].keys
    return read_notes(machine.repository.files, machine.repository.chain_folder(chain), keys).points


def test_a_note_is_written_once_and_beside_those_of_others() -> None:
    machine = make_machine({"disk0": 6})
    chains = set()
    for _ in range(2):
        machine.sessions += 1
        opened = machine.begin()
        note = PointNote(point_id=opened.point_id, day=date(2026, 11, 1))
        note_begun(machine.repository, opened, None, note)
        note_begun(machine.repository, opened, None, msgspec.structs.replace(note, day=date(2026, 12, 1)))
        machine.transfer_all(opened)
        machine.finish(opened)
        chains.add(opened.chain)
    [notes] = [notes_of(machine, chain) for chain in chains]
    assert [one.point_id for one in notes] == [kept.summary.point_id for kept in machine.kept]
    assert {one.day for one in notes} == {date(2026, 11, 1)}
