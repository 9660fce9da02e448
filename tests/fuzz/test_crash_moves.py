"""A crash while chains change their place or owner leaves each whole in one place, and the same again ends it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import MachineId, folder_name
from holdfast.model.points import PointSummary
from holdfast.storage.chains.repository import Repository, StoredPoint
from holdfast.storage.intake.finishing import summarize
from holdfast.storage.tools.chain_import import import_chain
from holdfast.storage.tools.mapping import NewOwner, change_owner
from holdfast.storage.tools.moving import Move, chains_to_move, move_chain
from holdfast.testing.crash_states import CrashState, crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.driving import CLOCK, MACHINE, back_up, restored

HOME, AWAY = Path("/home"), Path("/away")
CONTENT = [random.Random(seed).randbytes(3 * PIECE_SIZE) for seed in range(3)]
LEAST_STATES = 12
NEW = MachineId("m2")
WANTED = NewOwner(folder=folder_name("web 01", MACHINE), machine_id=NEW, machine_name="web 02")


@pytest.fixture
def base() -> CrashFiles:
    files = CrashFiles()
    home = Repository.create(HOME, files, "aa" * 16, CLOCK.now())
    Repository.create(AWAY, files, "bb" * 16, CLOCK.now())
    for number in (1, 2):
        back_up(home, CONTENT[number], number, None)
    return files.copy()


def states(base: CrashFiles, files: CrashFiles, seed: int) -> Iterator[CrashState]:
    count = 0
    for state in crash_states(base, files.events, random.Random(seed), samples=1):
        count += 1
        yield state
    assert count > LEAST_STATES


def check_points(repository: Repository, state: CrashState) -> list[StoredPoint]:
    """Return the points, each of which has to read as it was written."""
    told = []
    for found in repository.points():
        assert found.point.complete, state.description
        told.append(found)
        with repository.open_chain(found.chain, None) as chain:
            assert chain.point(found.point.number)[1].root == found.point.root, state.description
    return told


def test_a_crash_while_a_machine_is_mapped_leaves_all_chains_with_one_of_both(base: CrashFiles, seed: int) -> None:
    files = base.copy()
    change_owner(Repository.open(HOME, files), WANTED, [None])
    owners = set()
    for state in states(base, files, seed):
        repository = Repository.open(HOME, state.files())
        machines = {found.point.machine.machine_id for found in check_points(repository, state)}
        assert len(machines) == 1, state.description
        owners |= machines
        change_owner(repository, WANTED, [None])
        following = back_up(repository, CONTENT[0], 3, None, machine_id=NEW, name="web 02")
        assert (following.number, following.kind) == (3, "increment"), state.description
        assert restored(repository, following, None) == CONTENT[0]
    assert owners == {MACHINE, NEW}


def test_a_crash_while_a_chain_is_imported_leaves_none_or_all_of_it(base: CrashFiles, seed: int) -> None:
    files = base.copy()
    folder = Repository.open(HOME, files).chain_folders()[0]
    import_chain(Repository.open(AWAY, files), folder, None, lambda *_: None)
    counts = set()
    for state in states(base, files, seed):
        left = state.files()
        repository = Repository.open(AWAY, left)
        points = check_points(repository, state)
        counts.add(len(points))
        if not points:
            import_chain(repository, folder, None, lambda *_: None)
        assert [restored(repository, point, None) for point in summaries(repository)] == CONTENT[1:]
    assert counts == {0, 2}


def test_a_crash_while_a_chain_moves_leaves_it_in_one_place_at_least(base: CrashFiles, seed: int) -> None:
    files = base.copy()
    chain = chains_to_move(Repository.open(HOME, files), WANTED.folder)[0]
    move(files, chain)
    counts = set()
    for state in states(base, files, seed):
        left = state.files()
        home, away = Repository.open(HOME, left), Repository.open(AWAY, left)
        points = (len(check_points(home, state)), len(check_points(away, state)))
        counts.add(points)
        move(left, chain)
        assert [restored(away, point, None) for point in summaries(away)] == CONTENT[1:], state.description
        assert list(home.points()) == []
    assert counts >= {(2, 0), (2, 2), (0, 2)}


def move(files: CrashFiles, chain: str) -> None:
    order = Move(chain=chain, to="away", now=CLOCK.now(), commit_bytes=1 << 18)
    move_chain(Repository.open(HOME, files), Repository.open(AWAY, files), order, [None], lambda _: None)


def summaries(repository: Repository) -> list[PointSummary]:
    [folder] = repository.chain_folders()
    with repository.open_chain(repository.relative(folder), None) as chain:
        return [summarize(repository, folder, *pair) for pair in chain.points()]
