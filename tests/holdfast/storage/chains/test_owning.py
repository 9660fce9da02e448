"""The owner of a chain is true in the folder that it names, and nowhere else among machines."""

import random
import shutil
from pathlib import Path

import pytest

from holdfast.errors import FileDamaged
from holdfast.formats.chain_keep import NotedOwner
from holdfast.formats.magic import PIECE_SIZE
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.keeping import write_owner
from holdfast.storage.chains.owning import owner_of, seen_by, shown_owner, why_compared
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.holdfast.storage.driving import CLOCK, back_up

FILES = HostFiles()
OWNER = NotedOwner(folder="web-02-00000000", machine_id="m2", machine_name="web 02", named=1, mapped=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    repository = Repository.create(tmp_path / "repository", FILES, "ab" * 16, CLOCK.now())
    point = back_up(repository, random.Random(1).randbytes(PIECE_SIZE), 1, None)
    return repository.chain_folder(point.chain)


def owner_in(folder: Path) -> NotedOwner | None:
    with Chain.open(FILES, folder, None) as chain:
        return owner_of(FILES, folder, chain.files[0].keys)


def test_an_owner_is_true_in_its_folder_and_on_a_shelf(folder: Path, tmp_path: Path) -> None:
    assert owner_in(folder) is None
    with Chain.open(FILES, folder, None) as chain:
        write_owner(FILES, folder, chain.files[0].keys, OWNER)
    assert owner_in(folder) is None
    for place, owner in ((OWNER.folder, OWNER), ("shelf", OWNER), ("web-03-11111111", None)):
        assert owner_in(Path(shutil.copytree(folder, tmp_path / place / folder.name))) == owner


def test_a_note_that_is_damaged_hides_no_point(folder: Path) -> None:
    (folder / "chain.keep").write_bytes(b"?")
    with Chain.open(FILES, folder, None) as chain:
        assert shown_owner(FILES, chain) is None
        with pytest.raises(FileDamaged):
            owner_of(FILES, folder, chain.files[0].keys)


def test_points_are_seen_as_the_owners_and_later_ones_keep_their_names(folder: Path) -> None:
    with Chain.open(FILES, folder, None) as chain:
        point = chain.points()[0][1]
    assert seen_by(point, None) is point
    assert (seen_by(point, OWNER).machine.machine_id, seen_by(point, OWNER).machine.name) == ("m2", "web 02")
    before = NotedOwner(folder="f", machine_id="m2", machine_name="web 02")
    assert seen_by(point, before).machine.name == "web 01"


def test_only_points_that_rest_on_another_machines_are_compared() -> None:
    assert why_compared(None, 1) == ""
    assert why_compared(OWNER, 2) == ""
    assert why_compared(OWNER, 1) == "the chain was mapped to machine m2 behind point 1"
