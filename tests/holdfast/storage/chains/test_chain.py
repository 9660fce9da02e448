"""A chain is the files of a folder; its points are random-access disks."""

from pathlib import Path

import pytest

from holdfast.errors import ChainBroken, DiskNotFound, FormatUnknown, PointNotFound
from holdfast.formats.magic import NEVER_WRITTEN, PIECE_SIZE, SUPERBLOCK_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.chain import Chain, chain_file_name, chain_file_names
from holdfast.storage.health.folder import verify_folder
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles


@pytest.fixture
def folder(machine: ProtectedMachine) -> Path:
    """A chain of three points: each changes one piece, the last zeros one."""
    disk = machine.disks["disk0"]
    summary = machine.back_up()
    disk.write(Span(2 * PIECE_SIZE, PIECE_SIZE))
    machine.back_up()
    disk.zero(Span(3 * PIECE_SIZE, PIECE_SIZE))
    disk.write(Span(0, 512))
    machine.back_up()
    return machine.repository.chain_folder(summary.chain)


def lose(files: CrashFiles, path: Path) -> None:
    files.set_content(path, bytes(2 * SUPERBLOCK_SIZE) + files.content(path)[2 * SUPERBLOCK_SIZE :])


def test_points_are_listed_oldest_first_with_their_files(files: CrashFiles, folder: Path) -> None:
    with Chain.open(files, folder) as chain:
        assert [(file.path.name, point.number) for file, point in chain.points()] == [
            ("00000001-full.hfc", 1),
            ("00000002-increment.hfc", 2),
            ("00000003-increment.hfc", 3),
        ]
        newest = chain.newest("m1")
        assert newest is not None
        assert newest[1].number == 3
        assert chain.newest("another machine") is None
    assert not files.open_handles


def test_a_map_says_which_point_wrote_each_piece(files: CrashFiles, folder: Path) -> None:
    with Chain.open(files, folder) as chain:
        writers = [list(chain.disk(number, "disk0").writers(0, 6)) for number in (1, 2, 3)]
    assert writers == [
        [(0, 6, 1)],
        [(0, 2, 1), (2, 1, 2), (3, 3, 1)],
        [(0, 1, 3), (1, 1, 1), (2, 1, 2), (3, 1, NEVER_WRITTEN), (4, 2, 1)],
    ]


def test_runs_lead_to_the_files_that_hold_the_pieces(files: CrashFiles, folder: Path) -> None:
    with Chain.open(files, folder) as chain:
        runs = list(chain.disk(3, "disk0").runs(0, 6))
    held = [(run.piece, run.count, None if run.file is None else run.file.path.name[:8]) for run in runs]
    assert held == [
        (0, 1, "00000003"),
        (1, 1, "00000001"),
        (2, 1, "00000002"),
        (3, 1, None),
        (4, 2, "00000001"),
    ]


def test_what_is_not_there_is_named(files: CrashFiles, folder: Path) -> None:
    with Chain.open(files, folder) as chain:
        with pytest.raises(PointNotFound, match="no complete point 4"):
            chain.disk(4, "disk0")
        with pytest.raises(DiskNotFound, match="no disk disk9"):
            chain.disk(1, "disk9")


def test_an_unfinished_point_is_listed_and_not_read(files: CrashFiles, machine: ProtectedMachine, folder: Path) -> None:
    machine.sessions = 9
    machine.begin()
    with Chain.open(files, folder) as chain:
        assert [point.complete for _, point in chain.points()] == [True, True, True, False]
        with pytest.raises(PointNotFound):
            chain.disk(4, "disk0")


def test_a_damaged_file_hides_no_point_that_does_not_need_it(files: CrashFiles, folder: Path) -> None:
    lose(files, folder / "00000002-increment.hfc")
    with Chain.open(files, folder) as chain:
        assert [point.number for _, point in chain.points()] == [1, 3]
        assert [lost.path.name for lost in chain.unreadable] == ["00000002-increment.hfc"]
        chain.disk(1, "disk0")
        with pytest.raises(ChainBroken, match="continues point 2, which is missing or another one"):
            chain.disk(3, "disk0")
        with pytest.raises(ChainBroken, match=r"wrote; 00000002-increment\.hfc cannot be opened"):
            chain.holder(2)
        with pytest.raises(FormatUnknown, match=r"00000002-increment\.hfc is not a chain file"):
            chain.check_whole()


def test_a_chain_of_which_nothing_can_be_opened_raises(files: CrashFiles, folder: Path) -> None:
    for name in chain_file_names(files, folder):
        lose(files, folder / name)
    with pytest.raises(FormatUnknown, match=r"00000001-full\.hfc"):
        Chain.open(files, folder)
    assert not files.open_handles


def test_a_file_that_holds_nothing_is_passed_over(files: CrashFiles, folder: Path) -> None:
    files.set_content(folder / "00000004-increment.hfc", b"")
    with Chain.open(files, folder) as chain:
        chain.check_whole()
        assert [path.name for path in chain.empty] == ["00000004-increment.hfc"]
        assert len(chain.files) == 3


def test_an_empty_folder_is_an_empty_chain(files: CrashFiles) -> None:
    files.make_folder(Path("/empty"))
    with Chain.open(files, Path("/empty")) as chain:
        assert (chain.files, chain.points(), chain.newest()) == ([], [], None)


def test_a_point_of_another_past_is_not_read(files: CrashFiles, machine: ProtectedMachine, folder: Path) -> None:
    # Point 2 is replaced by another point 2 of the same chain, made from the same full: every sum of it is right.
    kept = files.content(folder / "00000002-increment.hfc")
    third = files.content(folder / "00000003-increment.hfc")
    for name in ("00000002-increment.hfc", "00000003-increment.hfc", "chain.hfm"):
        files.drop(folder / name)
    machine.rewind(1)
    machine.disks["disk0"].write(Span(PIECE_SIZE, 3 * PIECE_SIZE))
    machine.back_up()
    assert files.content(folder / "00000002-increment.hfc") != kept
    files.set_content(folder / "00000003-increment.hfc", third)
    with Chain.open(files, folder) as chain:
        chain.disk(2, "disk0")
        with pytest.raises(ChainBroken, match="continues point 2, which is missing or another one"):
            chain.disk(3, "disk0")


def test_only_chain_files_are_taken_for_chain_files(files: CrashFiles, folder: Path) -> None:
    for name in ("readme.txt", "1-full.hfc", "00000009-full.hfc.suspect", "00000009-other.hfc", "00000009-full.hfcx"):
        files.set_content(folder / name, b"?")
    assert len(chain_file_names(files, folder)) == 3
    assert chain_file_name(7, "increment") == "00000007-increment.hfc"


def test_a_file_that_holds_nothing_is_no_damage(files: CrashFiles, folder: Path) -> None:
    files.set_content(folder / "00000004-increment.hfc", bytes(8192))
    assert verify_folder(files, folder, None, lambda _: None).is_good
