"""Notes and rules: nothing before the first writing, an error when damaged, and a lock never shorter."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from holdfast.errors import ChainBusy, FileDamaged, RequestInvalid
from holdfast.formats.keys import plain_keys
from holdfast.model.ids import PointId
from holdfast.model.retention import PointNote, RetentionOptions
from holdfast.storage.chains.keeping import KEEP_NAME, RULES_NAME, change_notes, read_notes, read_rules, write_rules
from holdfast.storage.files.atomic import HostFiles

KEYS = plain_keys(bytes(16))
UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
FILES = HostFiles()


def note(until: datetime | None = None) -> PointNote:
    return PointNote(point_id=PointId("a" * 32), day=date(2026, 11, 1), locked_until=until)


def test_without_a_file_nothing_is_noted(tmp_path: Path) -> None:
    assert read_notes(FILES, tmp_path, KEYS).points == ()
    assert read_rules(FILES, tmp_path) is None


def test_the_same_notes_are_not_written_twice(tmp_path: Path) -> None:
    for _ in range(2):
        change_notes(FILES, tmp_path, KEYS, lambda _: [note()])
    found = read_notes(FILES, tmp_path, KEYS)
    assert (found.sequence, found.points) == (1, (note(),))


@pytest.mark.parametrize("notes", [[note()], [note(UNTIL - timedelta(seconds=1))], []], ids=["none", "earlier", "gone"])
def test_a_lock_never_ends_earlier(tmp_path: Path, notes: list[PointNote]) -> None:
    change_notes(FILES, tmp_path, KEYS, lambda _: [note(UNTIL)])
    with pytest.raises(RequestInvalid, match="locked until"):
        change_notes(FILES, tmp_path, KEYS, lambda _: notes)
    change_notes(FILES, tmp_path, KEYS, lambda _: [note(UNTIL + timedelta(days=1))])


def test_notes_are_changed_by_one_at_a_time(tmp_path: Path) -> None:
    def change(known: tuple[PointNote, ...]) -> tuple[PointNote, ...]:
        with pytest.raises(ChainBusy):
            change_notes(FILES, tmp_path, KEYS, lambda _: [])
        return (*known, note())

    change_notes(FILES, tmp_path, KEYS, change)
    assert read_notes(FILES, tmp_path, KEYS).points == (note(),)


def test_damaged_notes_are_an_error_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / KEEP_NAME).write_bytes(b"{")
    with pytest.raises(FileDamaged, match=KEEP_NAME) as caught:
        read_notes(FILES, tmp_path, KEYS)
    assert "copy of the repository" in caught.value.hint


def test_rules_that_cannot_be_read_are_none_that_anybody_agreed_to(tmp_path: Path) -> None:
    write_rules(FILES, tmp_path, RetentionOptions(grace_days=3))
    assert read_rules(FILES, tmp_path) == RetentionOptions(grace_days=3)
    (tmp_path / RULES_NAME).write_bytes(b"{")
    assert read_rules(FILES, tmp_path) is None
