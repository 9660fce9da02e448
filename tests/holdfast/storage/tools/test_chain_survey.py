"""A look at a chain tells what is there, what depends on what, and what is wrong, whatever its state."""

import random
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ChainBroken, PassphraseWrong
from holdfast.formats.chain_health import PointMark
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import PointId
from holdfast.model.points import Health
from holdfast.model.retention import CalendarMark, MarkKind, PointNote
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.keeping import KEEP_NAME, change_notes
from holdfast.storage.chains.metadata import METADATA_NAME, refresh_metadata
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.health_file import change_health
from holdfast.storage.tools.chain_survey import is_chain_folder, look_at_chain
from tests.holdfast.storage.driving import back_up

FILES = HostFiles()
PASSPHRASE = "correct horse"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "r", FILES, "ab" * 16, SystemClock().now())


def three_points(repository: Repository, passphrase: str | None = None) -> Path:
    """Make a full of 8 pieces of which half are zeros, an increment of 2 pieces, and one that is like it."""
    content = bytearray(random.Random(3).randbytes(4 * PIECE_SIZE)) + bytearray(4 * PIECE_SIZE)
    back_up(repository, bytes(content), 1, passphrase)
    content[: 2 * PIECE_SIZE] = random.Random(4).randbytes(2 * PIECE_SIZE)
    back_up(repository, bytes(content), 2, passphrase)
    return repository.chain_folder(back_up(repository, bytes(content), 3, passphrase).chain)


def test_points_tell_what_they_changed_what_is_stored_and_what_they_need(repository: Repository) -> None:
    view = look_at_chain(FILES, three_points(repository), "c")
    assert view.is_sound
    assert [file.kind for file in view.files] == ["full", "increment", "increment"]
    assert [point.needs for point in view.points] == [None, 1, 2]
    assert [point.changed_bytes // PIECE_SIZE for point in view.points] == [4, 2, 0]
    assert [point.size_bytes // PIECE_SIZE for point in view.points] == [8, 8, 8]
    stored = [point.stored_bytes for point in view.points]
    assert stored[0] >= 4 * PIECE_SIZE
    assert 2 * PIECE_SIZE <= stored[1] < 3 * PIECE_SIZE
    assert stored[2] == 0
    assert view.files[0].size_bytes == (repository.root / next(iter(view_paths(repository)))).stat().st_size
    assert (view.is_encrypted, view.unit_size, view.machines) == (False, 256 << 10, ("web 01",))


def view_paths(repository: Repository) -> list[Path]:
    return sorted(repository.root.glob("machines/*/*/*.hfc"))


def test_a_damaged_file_is_shown_with_its_points_and_those_that_need_it(repository: Repository) -> None:
    folder = three_points(repository)
    with (folder / "00000002-increment.hfc").open("r+b") as file:
        file.write(bytes(8192))
    view = look_at_chain(FILES, folder, "c")
    assert [bool(file.trouble) for file in view.files] == [False, True, False]
    assert [bool(point.trouble) for point in view.points] == [False, True, True]
    assert "continues point 2" in view.points[2].trouble
    assert view.points[1].machine == "web 01"


def test_a_missing_file_is_shown_from_the_metadata(repository: Repository) -> None:
    folder = three_points(repository)
    (folder / "00000003-increment.hfc").unlink()
    view = look_at_chain(FILES, folder, "c")
    assert view.files[2].trouble == "the file is missing"
    assert [point.trouble for point in view.points] == ["", "", "the file is missing"]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_metadata_that_is_gone_is_told(repository: Repository, is_damaged: bool) -> None:
    folder = three_points(repository)
    path = folder / METADATA_NAME
    path.unlink()
    if is_damaged:
        path.write_bytes(b"nonsense")
    view = look_at_chain(FILES, folder, "c")
    assert METADATA_NAME in view.troubles[0]
    refresh_metadata(FILES, folder, None)
    assert look_at_chain(FILES, folder, "c").is_sound


def test_a_damaged_file_without_metadata_is_known_by_its_name(repository: Repository) -> None:
    folder = three_points(repository)
    (folder / METADATA_NAME).unlink()
    (folder / "00000003-increment.hfc").write_bytes(b"x" * 20000)
    view = look_at_chain(FILES, folder, "c")
    assert (view.files[2].kind, view.files[2].points, bool(view.files[2].trouble)) == ("increment", (), True)


def test_files_that_do_not_continue_each_other_are_told(repository: Repository) -> None:
    folder = three_points(repository)
    (folder / METADATA_NAME).unlink()
    (folder / "00000002-increment.hfc").unlink()
    view = look_at_chain(FILES, folder, "c")
    assert any("continues point 2" in trouble for trouble in view.troubles)


def test_a_chain_of_which_no_file_can_be_opened_is_shown_from_its_metadata(repository: Repository) -> None:
    folder = three_points(repository)
    for path in view_paths(repository):
        path.write_bytes(b"x" * 20000)
    view = look_at_chain(FILES, folder, "c")
    assert [bool(point.trouble) for point in view.points] == [True, True, True]
    assert view.unit_size == 0


def test_a_file_that_was_never_committed_is_left_over_and_no_trouble(repository: Repository) -> None:
    folder = three_points(repository)
    (folder / "00000004-increment.hfc").write_bytes(b"")
    view = look_at_chain(FILES, folder, "c")
    assert view.leftovers == ("00000004-increment.hfc",)
    assert view.is_sound


def test_an_encrypted_chain_needs_its_passphrase(repository: Repository) -> None:
    folder = three_points(repository, PASSPHRASE)
    assert look_at_chain(FILES, folder, "c", PASSPHRASE).is_encrypted
    with pytest.raises(PassphraseWrong):
        look_at_chain(FILES, folder, "c")


def test_a_folder_without_a_chain_is_told_from_one_with(repository: Repository, tmp_path: Path) -> None:
    folder = three_points(repository)
    assert is_chain_folder(FILES, folder)
    assert not is_chain_folder(FILES, tmp_path)
    with pytest.raises(ChainBroken, match="no readable file"):
        look_at_chain(FILES, tmp_path, "c")


def test_what_keeps_a_point_and_what_a_scrub_found_wrong_with_it_is_shown(repository: Repository) -> None:
    folder = three_points(repository)
    plain = look_at_chain(FILES, folder, "c")
    until = datetime(2027, 1, 2, tzinfo=UTC)
    first, second, _ = plain.points
    marks = (CalendarMark(kind=MarkKind.WEEKLY, given=date(2026, 12, 5)),)
    note = PointNote(point_id=PointId(first.id), day=date(2026, 12, 5), marks=marks, locked_until=until)
    with Chain.open(FILES, folder) as chain:
        change_notes(FILES, folder, chain.files[0].keys, lambda _: [note])
    mark = PointMark(number=2, point_id=second.id, machine="m1", state=Health.DAMAGED, reason="1 unit")
    change_health(FILES, folder, lambda known: msgspec.structs.replace(known, points=(mark,)))
    points = look_at_chain(FILES, folder, "c").points
    assert (points[0].marks, points[0].locked_until) == (("weekly",), until)
    assert [point.trouble for point in points] == ["", "found damaged: 1 unit", ""]
    (folder / KEEP_NAME).write_bytes(b"?")
    assert KEEP_NAME in look_at_chain(FILES, folder, "c").troubles[0]
