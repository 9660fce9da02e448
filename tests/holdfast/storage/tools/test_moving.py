"""A chain moves to another repository whole or not at all, goes on there, and can be taken back where it was."""

import random
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import ChainBroken, ChainBusy, DataDamaged, PointNotFound, RepositoryFull, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.archives import is_archive
from holdfast.model.ids import MachineId, PointId, SessionId, folder_name
from holdfast.model.points import PointSummary
from holdfast.planning.grace import PurgeRule
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.health.folder import verify_folder
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.retention.graveyard import lock_points, purge_machine, take_back
from holdfast.storage.tools.mapping import NewOwner, change_owner
from holdfast.storage.tools.moving import Move, MovedChain, chains_to_move, discard_move, move_chain
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.aging import age
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.driving import CLOCK, MACHINE, back_up, restored, snapshot_of
from tests.holdfast.storage.jobs import Job
from tests.holdfast.storage.retention.test_archiving import archived

FILES = HostFiles()
CONTENT = [random.Random(seed).randbytes(5 * PIECE_SIZE) for seed in range(5)]
FOLDER = folder_name("web 01", MACHINE)
PASSPHRASE = "open sesame"
UNIT = 256 << 10
COMMIT = 128 << 10


@pytest.fixture
def home(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "home", FILES, "aa" * 16, CLOCK.now())


@pytest.fixture
def away(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "away", FILES, "bb" * 16, CLOCK.now())


def two_points(repository: Repository, passphrase: str | None = None) -> PointSummary:
    back_up(repository, CONTENT[0], 1, passphrase)
    return back_up(repository, CONTENT[1], 2, passphrase)


def a_move(chain: str) -> Move:
    return Move(chain=chain, to="away", now=CLOCK.now(), commit_bytes=COMMIT)


def move(home: Repository, away: Repository, chain: str, passphrase: str | None = None) -> MovedChain:
    return move_chain(home, away, a_move(chain), [passphrase], lambda _: None)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_moved_chain_goes_on_in_its_new_place(home: Repository, away: Repository, passphrase: str | None) -> None:
    point = two_points(home, passphrase)
    folder = home.chain_folder(point.chain)
    before = {path.name: path.read_bytes() for path in folder.glob("*.hfc")}
    moved = move(home, away, point.chain, passphrase)
    assert (moved.chain, moved.points, moved.stays_until) == (point.chain, 2, None)
    assert moved.copied_bytes == moved.size_bytes == sum(map(len, before.values()))
    there = away.chain_folder(moved.chain)
    assert {path.name: path.read_bytes() for path in there.glob("*.hfc")} == before
    assert {path.name for path in there.iterdir()} <= {*before, "chain.hfm", "chain.readers", "chain.lock"}
    assert list(home.points(passphrase)) == []
    third = back_up(away, CONTENT[2], 3, passphrase)
    assert (third.chain, third.kind, third.number) == (moved.chain, "increment", 3)
    assert restored(away, third, passphrase) == CONTENT[2]
    assert verify_folder(FILES, there, passphrase, lambda _: None).is_good


def test_a_full_after_a_move_says_where_the_chain_went(home: Repository, away: Repository) -> None:
    move(home, away, two_points(home).chain)
    begun = begin_point(home, SessionId("s"), snapshot_of(CONTENT[2], 3), StoreOptions(unit_size=UNIT))
    assert begun.kind == "full"
    assert "moved to repository away on" in begun.reason
    (home.machine_at(FOLDER) / "moved.json").write_bytes(b"?")
    assert begin_point(home, SessionId("t"), snapshot_of(CONTENT[2], 3), StoreOptions(unit_size=UNIT)).kind == "full"


def test_what_was_moved_can_be_taken_back(home: Repository, away: Repository) -> None:
    point = two_points(home)
    move(home, away, point.chain)
    take_back(home, point.chain, None, CLOCK.now() + timedelta(days=1))
    assert restored(home, point, None) == CONTENT[1]


def test_a_chain_comes_back_when_its_old_place_is_purged(home: Repository, away: Repository) -> None:
    point = two_points(home)
    move(home, away, point.chain)
    with pytest.raises(RequestInvalid, match="keeps what was removed of this chain"):
        move_chain(away, home, a_move(point.chain), [None], lambda _: None)
    purge_machine(home, home.machine_at(FOLDER), PurgeRule(now=CLOCK.now(), keeps_promises=False))
    assert move_chain(away, home, a_move(point.chain), [None], lambda _: None).points == 2
    assert restored(home, point, None) == CONTENT[1]
    assert back_up(home, CONTENT[2], 3, None).kind == "increment"


def test_all_chains_of_a_machine_move_one_after_the_other(home: Repository, away: Repository) -> None:
    first = two_points(home)
    synthesize(home, first.chain, None, lambda _: None)
    names = chains_to_move(home, FOLDER)
    assert len(names) == 2
    for name in names:
        move(home, away, name)
    assert chains_to_move(home, FOLDER) == ()
    assert [found.point.number for found in away.points()] == [1, 2]
    assert back_up(away, CONTENT[2], 3, None).kind == "increment"


def test_a_stopped_move_goes_on_behind_its_last_commit(home: Repository, away: Repository) -> None:
    point = two_points(home)
    done: list[int] = []

    def stop(copied: int) -> None:
        done.append(copied)
        if copied >= 2 * COMMIT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_chain(home, away, a_move(point.chain), [None], stop)
    assert list(away.points()) == []
    assert restored(home, point, None) == CONTENT[1]
    moved = move(home, away, point.chain)
    assert moved.copied_bytes == moved.size_bytes - done[-1]
    assert restored(away, point, None) == CONTENT[1]


def test_a_file_that_changed_meanwhile_is_copied_anew(home: Repository, away: Repository) -> None:
    point = two_points(home)

    def stop(copied: int) -> None:
        if copied >= COMMIT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_chain(home, away, a_move(point.chain), [None], stop)
    third = back_up(home, CONTENT[2], 3, None)
    staging = away.machine_at(FOLDER) / f"move-{point.chain.rpartition('/')[2]}"
    (staging / "move.json").write_bytes(b"?")
    (staging / "00000009-increment.hfc").write_bytes(b"left")
    moved = move(home, away, point.chain)
    assert moved.copied_bytes == moved.size_bytes
    assert restored(away, third, None) == CONTENT[2]


def test_a_discarded_move_leaves_nothing(home: Repository, away: Repository) -> None:
    point = two_points(home)

    def stop(copied: int) -> None:
        if copied >= COMMIT:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_chain(home, away, a_move(point.chain), [None], stop)
    discard_move(away, point.chain)
    assert list((away.root / "machines").iterdir()) == []
    discard_move(away, point.chain)
    assert restored(home, point, None) == CONTENT[1]


def test_a_discard_after_the_end_changes_nothing(home: Repository, away: Repository) -> None:
    point = two_points(home)
    move(home, away, point.chain)
    discard_move(away, point.chain)
    assert restored(away, point, None) == CONTENT[1]


def test_a_locked_chain_is_copied_and_stays_until_its_lock_ends(home: Repository, away: Repository) -> None:
    point = two_points(home)
    until = CLOCK.now() + timedelta(days=1)
    lock_points(home, point.chain, [PointId(point.point_id)], None, until)
    moved = move(home, away, point.chain)
    assert moved.stays_until == until
    assert restored(home, point, None) == restored(away, point, None) == CONTENT[1]
    later = Move(chain=point.chain, to="away", now=until + timedelta(seconds=1))
    again = move_chain(home, away, later, [None], lambda _: None)
    assert (again.copied_bytes, again.stays_until) == (0, None)
    assert list(home.points()) == []
    assert restored(away, point, None) == CONTENT[1]


def test_a_mapped_chain_keeps_its_owner(home: Repository, away: Repository) -> None:
    two_points(home)
    new = MachineId("m2")
    given = change_owner(home, NewOwner(folder=FOLDER, machine_id=new, machine_name="web 02"), [None])
    moved = move(home, away, given.chains[0].chain)
    assert (moved.machine_id, moved.machine_name) == (new, "web 02")
    begun = begin_point(away, SessionId("s"), snapshot_of(CONTENT[2], 3, new), StoreOptions(unit_size=UNIT))
    assert begun.kind == "increment"
    assert "mapped" in begun.compares


def test_a_machine_with_later_points_there_is_refused(home: Repository, away: Repository) -> None:
    point = two_points(home)
    back_up(away, CONTENT[2], 9, None)
    with pytest.raises(RequestInvalid, match="a chain of its own there"):
        move(home, away, point.chain)
    assert restored(home, point, None) == CONTENT[1]


def test_a_repository_is_not_moved_into_itself(home: Repository) -> None:
    with pytest.raises(RequestInvalid, match="the same repository"):
        move(home, home, two_points(home).chain)


def test_a_chain_that_is_written_is_left_alone(home: Repository, away: Repository) -> None:
    point = two_points(home)
    lock = acquire_chain_lock(FILES, home.chain_folder(point.chain))
    with pytest.raises(ChainBusy):
        move(home, away, point.chain)
    lock.close()
    assert move(home, away, point.chain).points == 2


def test_a_move_may_be_repeated(home: Repository, away: Repository) -> None:
    point = two_points(home)
    moved = move(home, away, point.chain)
    assert move(home, away, point.chain) == msgspec.structs.replace(moved, copied_bytes=0)
    with pytest.raises(PointNotFound):
        home.find_point(point.point_id)


def test_a_chain_that_is_nowhere_is_told(home: Repository, away: Repository) -> None:
    with pytest.raises(ChainBroken, match="holds no chain file"):
        move(home, away, f"machines/{FOLDER}/000001-00000000")


def test_what_was_let_go_in_part_goes_whole(home: Repository, away: Repository) -> None:
    point = two_points(home)
    move(home, away, point.chain)
    take_back(home, point.chain, None, CLOCK.now())
    folder = home.chain_folder(point.chain)
    (folder / point.file).unlink()
    (folder / "chain.hfm").unlink()
    assert move(home, away, point.chain).points == 2
    assert chains_to_move(home, FOLDER) == ()
    assert restored(away, point, None) == CONTENT[1]


def in_memory() -> tuple[CrashFiles, Repository, Repository]:
    files = CrashFiles()
    home = Repository.create(Path("/home"), files, "aa" * 16, CLOCK.now())
    return files, home, Repository.create(Path("/away"), files, "bb" * 16, CLOCK.now())


def test_what_does_not_read_back_is_not_let_go() -> None:
    files, home, away = in_memory()
    point = two_points(home)
    staged = Path("/away/machines") / FOLDER / f"move-{point.chain.rpartition('/')[2]}" / point.file
    files.overlay[staged, 3] = b"\xff" * 512
    with pytest.raises(DataDamaged, match="do not read back"):
        move(home, away, point.chain)
    assert restored(home, point, None) == CONTENT[1]
    files.overlay.clear()
    assert move(home, away, point.chain).points == 2


def test_space_is_looked_for_before_anything_is_copied() -> None:
    files, home, away = in_memory()
    point = two_points(home)
    files.quota = sum(len(image) for image in files.images.values()) + (1 << 20)
    with pytest.raises(RepositoryFull, match="are needed"):
        move(home, away, point.chain)
    files.quota = None
    assert not [path for path in files.paths() if "move-" in str(path) and path.suffix == ".hfc"]
    assert move(home, away, point.chain).points == 2


def test_a_broken_chain_is_not_moved(home: Repository, away: Repository) -> None:
    point = two_points(home)
    (home.chain_folder(point.chain) / "00000001-full.hfc").unlink()
    with pytest.raises(ChainBroken):
        move(home, away, point.chain)
    assert list(away.points()) == []


def test_archives_move_beside_the_chain_of_the_job_and_stay_what_they_are() -> None:
    files = CrashFiles([Path("/")])
    machine = make_machine({"disk0": 6}, files)
    age(machine, 2)
    one = archived(machine)
    away = Repository.create(Path("/away"), files, "bb" * 16, CLOCK.now())
    home, folder = machine.repository, Path(one.chain).parent.name
    for chain in chains_to_move(home, folder):
        assert move(home, away, chain).chain == chain
    assert [found.chain for found in away.points() if is_archive(found.chain)] == [one.chain]
    machine.repository = away
    assert machine.back_up().kind == "increment"
    assert machine.differences() == []


def test_a_chain_that_machines_of_a_job_share_stays_with_the_job() -> None:
    job = Job(CrashFiles([Path("/")]))
    away = Repository.create(Path("/away"), job.files, "bb" * 16, CLOCK.now())
    chain = job.a.back_up().chain
    with pytest.raises(RequestInvalid, match="belongs to all machines of a job"):
        move(job.repository, away, chain)
    wanted = NewOwner(folder=Path(chain).parent.name, machine_id=MachineId("m9"), machine_name="nine")
    with pytest.raises(RequestInvalid, match="belongs to all machines of a job"):
        change_owner(job.repository, wanted, [None])
    job.b.back_up()
    with pytest.raises(RequestInvalid, match="several machines: m-a, m-b"):
        move(job.repository, away, chain)
    assert list(away.points()) == []
