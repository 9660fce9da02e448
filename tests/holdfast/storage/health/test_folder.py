"""Whatever is wrong with one file, everything else is still checked and every lost point is named."""

import random
import shutil
from pathlib import Path

import pytest

from holdfast.errors import ChainBroken, PassphraseWrong
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.points import PointSummary, VerifyReport
from holdfast.storage.chains.metadata import METADATA_NAME, refresh_metadata
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.files.chain_lock import has_readers
from holdfast.storage.health.folder import open_readable, verify_folder
from tests.holdfast.storage.driving import CLOCK, back_up

PASSPHRASE = "a long enough secret"


class Story:
    """A repository with one chain of three points."""

    def __init__(self, root: Path) -> None:
        self.repository = Repository.create(root / "repository", HostFiles(), "id", CLOCK.now())
        rng = random.Random(1)
        self.content = bytearray(rng.randbytes(24 * PIECE_SIZE))
        self.points: list[PointSummary] = []
        for number in range(3):
            self.points.append(back_up(self.repository, bytes(self.content), number, PASSPHRASE))
            if number == 1:
                shutil.copytree(self.folder, root / "older")
            at = (5 + number) * PIECE_SIZE
            self.content[at : at + PIECE_SIZE] = rng.randbytes(PIECE_SIZE)
        self.older = root / "older"

    @property
    def folder(self) -> Path:
        return self.repository.chain_folder(self.points[0].chain)

    def path(self, number: int) -> Path:
        return self.folder / self.points[number].file

    def verify(self, numbers: list[int] | None = None) -> VerifyReport:
        return verify_folder(self.repository.files, self.folder, PASSPHRASE, lambda _: None, numbers=numbers)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_sound_chain_has_no_damage(story: Story) -> None:
    report = story.verify()
    assert report.is_good
    assert report.points == 3


def test_a_missing_file_takes_its_point_and_those_that_need_it(story: Story) -> None:
    story.path(0).unlink()
    damages = story.verify().damages
    assert {damage.point for damage in damages} == {1, 2, 3, 0}
    assert any("missing" in damage.reason for damage in damages if damage.point == 1)


def test_a_missing_newest_file_takes_only_its_own_point(story: Story) -> None:
    story.path(2).unlink()
    assert {damage.point for damage in story.verify().damages} == {3, 0}


def test_a_file_that_is_none_of_ours_is_named_with_its_point(story: Story) -> None:
    story.path(1).write_bytes(b"not a chain file" * 1000)
    damages = story.verify().damages
    named = [damage for damage in damages if damage.file == story.path(1).name]
    assert {damage.point for damage in named} == {2}
    assert "not a chain file" in named[0].reason


def test_points_that_do_not_need_the_damaged_file_stay_good(story: Story) -> None:
    story.path(2).write_bytes(b"")
    assert story.verify([1, 2]).damages == ()


def test_a_chain_rolled_back_behind_its_metadata_is_noticed(story: Story) -> None:
    shutil.copyfile(story.folder / METADATA_NAME, story.older / METADATA_NAME)
    report = verify_folder(story.repository.files, story.older, PASSPHRASE, lambda _: None)
    assert any("missing" in damage.reason for damage in report.damages)


def test_two_swapped_files_are_noticed(story: Story, tmp_path: Path) -> None:
    first, second = story.path(1), story.path(2)
    first.rename(tmp_path / "aside")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    # Names are not trusted for anything: the chain reads the same.
    assert story.verify().is_good


def test_damaged_metadata_is_named_and_can_be_made_again(story: Story) -> None:
    path = story.folder / METADATA_NAME
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    assert [damage.file for damage in story.verify().damages] == [METADATA_NAME]
    refresh_metadata(story.repository.files, story.folder, PASSPHRASE)
    assert story.verify().is_good


def test_a_wrong_passphrase_is_not_damage(story: Story) -> None:
    with pytest.raises(PassphraseWrong):
        open_readable(story.repository.files, story.folder, "another secret")


def test_a_finished_file_that_was_overwritten_is_never_taken_for_a_leftover(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repository", HostFiles(), "id", CLOCK.now())
    content = random.Random(2).randbytes(8 * PIECE_SIZE)
    point = back_up(repository, content, 0, PASSPHRASE)
    path = repository.chain_folder(point.chain) / point.file
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ChainBroken, match="was complete and is not any more"):
        back_up(repository, content, 1, PASSPHRASE)
    assert path.exists()


def test_writers_know_that_what_can_be_read_is_being_read(story: Story) -> None:
    chain, _ = open_readable(story.repository.files, story.folder, PASSPHRASE)
    with chain:
        assert has_readers(story.repository.files, story.folder)
    assert not has_readers(story.repository.files, story.folder)
