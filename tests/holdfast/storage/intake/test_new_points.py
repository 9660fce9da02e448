"""A new point names its machine as the point it rests on does."""

import random
from pathlib import Path

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import MachineId, SessionId
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.new_points import new_point, parent_of
from tests.holdfast.storage.driving import CLOCK, back_up, snapshot_of

CONTENT = random.Random(1).randbytes(PIECE_SIZE)
SESSION = SessionId("s")


def test_a_first_point_rests_on_none() -> None:
    point = new_point(SESSION, snapshot_of(CONTENT, 1), None, 1)
    assert (point.machine.machine_id, point.parent_root, point.number) == ("m1", None, 1)
    assert parent_of(None) is None


def test_a_later_point_has_the_id_of_its_parents_machine_and_the_name_of_today(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path, HostFiles(), "ab" * 16, CLOCK.now())
    before = back_up(repository, CONTENT, 1, None)
    with repository.open_chain(before.chain, None) as chain:
        parent = chain.point(1)
        point = new_point(SESSION, snapshot_of(CONTENT, 2, MachineId("m2"), "web 02"), parent[1], 2)
        named = parent_of(parent)
    assert (point.machine.machine_id, point.machine.name, point.parent_root) == ("m1", "web 02", before.root)
    assert named is not None
    assert (named.point, named.root) == (1, before.root)
