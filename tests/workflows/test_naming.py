"""A line about one machine of several says which, once."""

import msgspec
import pytest

from holdfast.model.ids import MachineId
from holdfast.model.machine import SkippedDisk
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine
from workflows.naming import labels, with_machine


def test_a_name_that_one_machine_has_is_enough() -> None:
    assert labels([a_machine("web"), a_machine("db")]) == {"id-web": "web", "id-db": "db"}


def test_machines_of_one_name_are_told_apart_by_the_end_of_their_ids() -> None:
    twins = [msgspec.structs.replace(a_machine("web"), machine_id=MachineId(f"vc:0000-12345678{n}")) for n in (1, 2)]
    assert list(labels([*twins, a_machine("db")]).values()) == ["web (…23456781)", "web (…23456782)", "db"]


@pytest.mark.parametrize(
    "name, note, expected",
    [
        ("web", "disk 2 is not protected", "web: disk 2 is not protected"),
        ("web", "web/2000: read over network", "web/2000: read over network"),
        ("web", "machine 'web' is busy", "machine 'web' is busy"),
        ("web", "it was web.", "it was web."),
        ("web", "web.example.org is busy", "web: web.example.org is busy"),
        ("web", "web-data is full", "web: web-data is full"),
        ("a", "was read as it is", "a: was read as it is"),
        ("a+b", "a+b/0: slow", "a+b/0: slow"),
    ],
)
def test_a_note_names_its_machine_once(name: str, note: str, expected: str) -> None:
    assert with_machine(note, name, name) == expected


def test_a_name_that_several_have_is_told_in_full() -> None:
    assert with_machine("web/0: slow", "web", "web (…1)") == "web (…1): 0: slow"
    assert with_machine("machine 'web' is busy", "web", "web (…1)") == "web (…1): machine 'web' is busy"


@pytest.mark.temporal
async def test_notes_of_machines_of_one_name_are_told_apart(stage: Stage) -> None:
    skipped = (SkippedDisk(label="d2", reason="shared"),)
    twins = [
        msgspec.structs.replace(a_machine("web"), machine_id=MachineId(f"machine-{number:08}"), skipped=skipped)
        for number in (1, 2)
    ]
    world = World(twins)
    async with stage.playing(world):
        result = await stage.run_backup()
    assert sorted(result.session.notes) == [
        f"web (…{number:08}): disk d2 is not protected: shared" for number in (1, 2)
    ]
