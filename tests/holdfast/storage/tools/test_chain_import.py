"""A chain that was found is copied whole or not at all, and its machine goes on with it."""

import random
import shutil
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ChainBroken, ChainBusy, DataDamaged, FormatUnknown, RepositoryFull, RequestInvalid
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import MachineId
from holdfast.model.points import PointSummary
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import LOCK_NAME, acquire_chain_lock
from holdfast.storage.health.folder import verify_folder
from holdfast.storage.tools.chain_import import ImportedChain, import_chain
from holdfast.storage.tools.mapping import NewOwner, change_owner
from tests.holdfast.storage.driving import back_up, restored

CLOCK = SystemClock()
FILES = HostFiles()
CONTENT = [random.Random(seed).randbytes(5 * PIECE_SIZE) for seed in range(4)]
PASSPHRASE = "open sesame"


def make_repository(folder: Path) -> Repository:
    return Repository.create(folder, FILES, "ab" * 16, CLOCK.now())


@pytest.fixture
def source(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "source")


@pytest.fixture
def target(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "target")


def two_points(repository: Repository, passphrase: str | None = None) -> PointSummary:
    back_up(repository, CONTENT[0], 1, passphrase)
    return back_up(repository, CONTENT[1], 2, passphrase)


def quiet(what: str, done: int, of: int) -> None:
    assert what in {"copying", "reading back"}
    assert 0 <= done <= of


def imported(target: Repository, folder: Path, passphrase: str | None = None) -> ImportedChain:
    return import_chain(target, folder, passphrase, quiet)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_an_imported_chain_restores_and_is_continued(
    source: Repository, target: Repository, passphrase: str | None
) -> None:
    point = two_points(source, passphrase)
    folder = source.chain_folder(point.chain)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    made = imported(target, folder, passphrase)
    assert (made.chain, made.points, made.is_continued, made.left_out) == (point.chain, 2, True, ())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert restored(target, point, passphrase) == CONTENT[1]
    following = back_up(target, CONTENT[2], 3, passphrase)
    assert (following.chain, following.kind, following.number) == (made.chain, "increment", 3)
    assert restored(target, following, passphrase) == CONTENT[2]
    assert verify_folder(FILES, target.chain_folder(made.chain), passphrase, lambda _: None).is_good


def test_what_says_how_long_points_are_kept_goes_with_them(source: Repository, target: Repository) -> None:
    folder = source.chain_folder(two_points(source).chain)
    (folder / "chain.keep").write_bytes(b"locked")
    assert (target.chain_folder(imported(target, folder).chain) / "chain.keep").read_bytes() == b"locked"


def test_a_chain_that_was_mapped_is_imported_for_the_machine_that_has_it(
    source: Repository, target: Repository
) -> None:
    point = two_points(source)
    wanted = NewOwner(folder=point.chain.split("/")[1], machine_id=MachineId("m2"), machine_name="web 02")
    [chain] = change_owner(source, wanted, [None]).chains
    made = imported(target, source.chain_folder(chain.chain))
    assert (made.machine_id, made.machine_name, made.is_continued) == ("m2", "web 02", True)
    following = back_up(target, CONTENT[2], 3, None, machine_id=MachineId("m2"))
    assert (following.chain, following.kind) == (made.chain, "increment")


def test_a_chain_is_imported_once(source: Repository, target: Repository) -> None:
    folder = source.chain_folder(two_points(source).chain)
    imported(target, folder)
    with pytest.raises(RequestInvalid, match="already"):
        imported(target, folder)
    with pytest.raises(RequestInvalid, match="already"):
        imported(source, folder)


def test_a_chain_with_older_points_does_not_take_the_place_of_a_newer_one(
    source: Repository, target: Repository
) -> None:
    old = two_points(source)
    new = back_up(target, CONTENT[3], 9, None)
    made = imported(target, source.chain_folder(old.chain))
    assert not made.is_continued
    assert made.chain.split("/")[2].startswith("000000-")
    assert back_up(target, CONTENT[2], 10, None).chain == new.chain
    assert target.find_point("latest").point.number == 2
    moved = PointSummary(**{name: getattr(old, name) for name in old.__struct_fields__} | {"chain": made.chain})
    assert restored(target, moved, None) == CONTENT[1]


def test_a_chain_that_cannot_be_read_keeps_its_place(source: Repository, target: Repository) -> None:
    back_up(target, CONTENT[3], 9, PASSPHRASE)
    assert not imported(target, source.chain_folder(two_points(source).chain)).is_continued


def test_a_newer_chain_is_put_behind_those_that_are_there(source: Repository, target: Repository) -> None:
    back_up(target, CONTENT[3], 9, None)
    made = imported(target, source.chain_folder(two_points(source).chain))
    assert made.is_continued
    assert made.chain.split("/")[2].startswith("000002-")


def test_files_without_a_complete_point_stay_behind(source: Repository, target: Repository) -> None:
    folder = source.chain_folder(two_points(source).chain)
    (folder / "00000003-increment.hfc").write_bytes(b"")
    made = imported(target, folder)
    assert made.left_out == ("00000003-increment.hfc",)
    assert not (target.chain_folder(made.chain) / "00000003-increment.hfc").exists()


def machines_of(repository: Repository) -> list[Path]:
    machines = repository.root / "machines"
    return sorted(machines.iterdir()) if machines.exists() else []


def test_a_failed_import_leaves_what_else_the_machine_has(source: Repository, target: Repository) -> None:
    there = target.chain_folder(back_up(target, CONTENT[3], 9, None).chain)
    point = two_points(source)
    path = source.chain_folder(point.chain) / point.file
    path.write_bytes(path.read_bytes().replace(CONTENT[1][500:600], bytes(100)))
    with pytest.raises(DataDamaged):
        imported(target, path.parent)
    assert list(there.parent.iterdir()) == [there]


def test_a_stopped_import_leaves_no_chain_and_begins_anew(source: Repository, target: Repository) -> None:
    point = two_points(source)
    folder = source.chain_folder(point.chain)

    def stopped(what: str, done: int, of: int) -> None:
        if what == "reading back":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_chain(target, folder, None, stopped)
    assert machines_of(target) == []
    imported(target, folder)
    assert restored(target, point, None) == CONTENT[1]
    (machine,) = (target.root / "machines").iterdir()
    assert [path.name for path in machine.iterdir()] == [folder.name]


def test_two_imports_of_one_chain_do_not_mix(source: Repository, target: Repository) -> None:
    point = two_points(source)
    folder = source.chain_folder(point.chain)
    unfinished = target.root / "machines" / folder.parent.name / f"import-{point.chain_id[:8]}"
    FILES.make_folder(unfinished)
    lock = acquire_chain_lock(FILES, unfinished)
    with pytest.raises(ChainBusy):
        imported(target, folder)
    lock.close()
    assert (unfinished / LOCK_NAME).exists()
    imported(target, folder)


def test_damage_is_not_imported(source: Repository, target: Repository) -> None:
    point = two_points(source)
    folder = source.chain_folder(point.chain)
    path = folder / point.file
    data = bytearray(path.read_bytes())
    data[data.index(CONTENT[1][500:600])] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataDamaged):
        imported(target, folder)
    assert machines_of(target) == []
    (folder / "00000001-full.hfc").write_bytes(b"x" * 20000)
    with pytest.raises(FormatUnknown):
        imported(target, folder)
    assert list(target.points()) == []


def test_a_broken_chain_is_refused(source: Repository, target: Repository) -> None:
    folder = source.chain_folder(two_points(source).chain)
    (folder / "00000001-full.hfc").unlink()
    with pytest.raises(ChainBroken):
        imported(target, folder)


def test_a_chain_without_points_is_refused(source: Repository, target: Repository, tmp_path: Path) -> None:
    folder = source.chain_folder(two_points(source).chain)
    shutil.copytree(folder, tmp_path / "empty")
    for path in (tmp_path / "empty").glob("*.hfc"):
        path.unlink()
    with pytest.raises(RequestInvalid, match="no complete point"):
        imported(target, tmp_path / "empty")


def test_room_is_looked_for_before_anything_is_copied(
    source: Repository, target: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source.chain_folder(two_points(source).chain)
    monkeypatch.setattr(HostFiles, "free_bytes", lambda *_: 10)
    with pytest.raises(RepositoryFull):
        imported(target, folder)
    assert machines_of(target) == []
