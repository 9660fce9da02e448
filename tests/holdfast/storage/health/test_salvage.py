"""A chain file that lost its superblocks and tables is rebuilt from its records."""

import random
from pathlib import Path

import pytest

from holdfast.errors import ChainBusy, DataDamaged, FileDamaged
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.health import RepairReport
from holdfast.model.points import PointSummary
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.health.chain_repair import ChainRepair
from holdfast.storage.health.folder import finish_rebuilds, rebuild_file, verify_folder
from holdfast.storage.methods.upkeep import ChainUpkeep
from tests.holdfast.storage.driving import CLOCK, back_up, make_content, restored


def lose_structure(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(8192))


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_every_file_of_a_chain_is_rebuilt_from_its_records(tmp_path: Path, seed: int, passphrase: str | None) -> None:
    rng = random.Random(seed)
    repository = Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())
    content = make_content(rng, 40)
    points, contents = [], []
    for number in range(3):
        points.append(back_up(repository, bytes(content), number, passphrase))
        contents.append(bytes(content))
        for piece in rng.sample(range(40), 9):
            content[piece * PIECE_SIZE : (piece + 1) * PIECE_SIZE] = make_content(rng, 1)
    folder = repository.chain_folder(points[0].chain)
    for point in points:
        lose_structure(folder / point.file)
        damaged = verify_folder(repository.files, folder, passphrase, lambda _: None)
        assert {d.point for d in damaged.damages} >= {point.number}
        report = rebuild_file(repository.files, folder, point.file, passphrase)
        assert report.points == (point.number,)
        assert (folder / report.kept_as).exists()
    assert verify_folder(repository.files, folder, passphrase, lambda _: None).is_good
    for point, expected in zip(points, contents, strict=True):
        assert restored(repository, point, passphrase) == expected


def test_a_lost_unit_leaves_the_file_as_it_is(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())
    point = back_up(repository, random.Random(5).randbytes(8 * PIECE_SIZE), 0, None)
    folder = repository.chain_folder(point.chain)
    path = folder / point.file
    lose_structure(path)
    data = bytearray(path.read_bytes())
    first_unit = data.index(b"HFRECORD\x01")
    data[first_unit + 5000] ^= 1
    path.write_bytes(data)
    before = repository.files.names(folder)
    with pytest.raises(DataDamaged, match=r"lost with its unit|root differs"):
        rebuild_file(repository.files, folder, point.file, None)
    assert path.read_bytes() == data
    assert repository.files.names(folder) == before


def test_a_file_without_any_record_cannot_be_rebuilt(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())
    point = back_up(repository, random.Random(6).randbytes(PIECE_SIZE), 0, None)
    folder = repository.chain_folder(point.chain)
    (folder / point.file).write_bytes(bytes(1 << 20))
    with pytest.raises(FileDamaged, match="no readable contents page"):
        rebuild_file(repository.files, folder, point.file, None)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_file_that_took_others_in_is_rebuilt_too(tmp_path: Path, seed: int, is_interrupted: bool) -> None:
    rng = random.Random(seed)
    repository = Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())
    content = make_content(rng, 40)
    points, contents = [], []
    for number in range(4):
        points.append(back_up(repository, bytes(content), number, None))
        contents.append(bytes(content))
        for piece in rng.sample(range(40), 9):
            content[piece * PIECE_SIZE : (piece + 1) * PIECE_SIZE] = make_content(rng, 1)
        content[piece * PIECE_SIZE : (piece + 1) * PIECE_SIZE] = bytes(PIECE_SIZE)
    folder = repository.chain_folder(points[0].chain)
    upkeep = ChainUpkeep(repository.files, folder, None)
    for number in (1, 2):
        upkeep.merge(points[0].file, points[number].file)
    first = 2
    if is_interrupted:
        with pytest.raises(Interrupted):
            upkeep.merge(points[0].file, points[3].file, interrupt, 1)
    else:
        upkeep.merge(points[0].file, points[3].file)
        first = 3
    lose_structure(folder / points[0].file)
    assert rebuild_file(repository.files, folder, points[0].file, None).points == (first + 1,)
    assert verify_folder(repository.files, folder, None, lambda _: None).is_good
    for point, expected in zip(points[first:], contents[first:], strict=True):
        assert restored(repository, point, None) == expected


class Interrupted(Exception):
    pass


def interrupt(_: int) -> None:
    raise Interrupted


class Died(BaseException):
    """The process is gone."""


def two_points(folder: Path) -> tuple[Repository, list[PointSummary]]:
    """A full that lost its structure, and an increment."""
    rng = random.Random(7)
    repository = Repository.create(folder, HostFiles(), "id", CLOCK.now())
    points = [back_up(repository, bytes(make_content(rng, 8)), number, None) for number in range(2)]
    lose_structure(repository.chain_file(points[0].chain, points[0].file))
    return repository, points


def test_a_rebuild_that_died_between_its_renames_is_ended_by_the_next_repair(tmp_path: Path) -> None:
    repository, points = two_points(tmp_path / "r")

    def die(place: str) -> None:
        if place == "rebuild.kept":
            raise Died

    set_hook(die)
    try:
        with pytest.raises(Died):
            ChainRepair(repository, points[0].chain, None).run()
    finally:
        set_hook(None)
    folder = repository.chain_folder(points[0].chain)
    assert not (folder / points[0].file).exists()
    report = ChainRepair(repository, points[0].chain, None).run()
    assert (report.is_good, report.rebuilt) == (True, (f"{points[0].chain}/{points[0].file}",))
    assert (folder / f"{points[0].file}.damaged").exists()
    assert verify_folder(repository.files, folder, None, lambda _: None).is_good
    assert ChainRepair(repository, points[0].chain, None).run() == RepairReport(chains=1)


def test_what_is_not_the_file_that_is_missing_does_not_take_its_place(tmp_path: Path) -> None:
    repository, points = two_points(tmp_path / "r")
    folder = repository.chain_folder(points[0].chain)
    (folder / points[0].file).rename(folder / "away")
    (folder / f"{points[0].file}.rebuilt").write_bytes((folder / points[1].file).read_bytes())
    assert finish_rebuilds(repository.files, folder, None) == ()
    assert not (folder / points[0].file).exists()


def test_nobody_writes_to_a_chain_until_the_rebuilt_file_is_in_its_place(tmp_path: Path) -> None:
    repository, points = two_points(tmp_path / "r")
    folder = repository.chain_folder(points[0].chain)
    lock = acquire_chain_lock(repository.files, folder)
    with pytest.raises(ChainBusy):
        rebuild_file(repository.files, folder, points[0].file, None)
    lock.close()
    places = []

    def look(place: str) -> None:
        places.append(place)
        with pytest.raises(ChainBusy):
            acquire_chain_lock(repository.files, folder)

    set_hook(look)
    try:
        rebuild_file(repository.files, folder, points[0].file, None)
    finally:
        set_hook(None)
    assert "rebuild.kept" in places
    acquire_chain_lock(repository.files, folder).close()


def test_each_damaged_file_is_kept(tmp_path: Path) -> None:
    repository, points = two_points(tmp_path / "r")
    folder = repository.chain_folder(points[0].chain)
    path, kept = folder / points[0].file, {}
    for name in (f"{path.name}.damaged", f"{path.name}.damaged-2"):
        lose_structure(path)
        before = path.read_bytes()
        assert rebuild_file(repository.files, folder, path.name, None).kept_as == name
        kept[name] = before
    assert {name: (folder / name).read_bytes() for name in kept} == kept
