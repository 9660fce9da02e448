"""An archive goes by its own time alone: what the table of its page says happens."""

from datetime import UTC, date, datetime, timedelta

import pytest

from holdfast.errors import RequestInvalid
from holdfast.model.archives import Archive
from holdfast.model.ids import PointId
from holdfast.model.retention import ChainFact, FileFact, PointFact
from holdfast.planning.archives import ArchiveFact, kept_words, parse_expiry, plan_archives
from holdfast.planning.retention import Verdict
from tests.docs.pages import rows

PAGE = "docs/archives.md"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def file_of(name: str, locked_until: datetime | None = None) -> FileFact:
    point = PointFact(number=1, point_id=PointId(name), day=date(2026, 11, 1), locked_until=locked_until)
    return FileFact(name=name, kind="full", size_bytes=100, point=point)


def archive(name: str, expires: datetime | None, locked_until: datetime | None = None) -> ArchiveFact:
    return ArchiveFact(chain=ChainFact(chain=name, files=(file_of("a", locked_until),)), expires=(expires,))


def moment(words: str) -> datetime | None:
    return None if words == "-" else datetime.fromisoformat(words).replace(tzinfo=UTC)


@pytest.mark.parametrize("expires, locked, today, becomes", rows(PAGE, "Expires"))
def test_the_table_of_the_page_is_what_happens(expires: str, locked: str, today: str, becomes: str) -> None:
    now = moment(today)
    assert now is not None
    plan = plan_archives([archive("one", moment(expires), moment(locked))], now)
    assert [point.verdict.value for point in plan.points] == [becomes]
    assert [removal.chain for removal in plan.removals] == (["one"] if becomes == "deleted" else [])


def test_each_archive_is_told_with_its_reason() -> None:
    past, later = NOW - timedelta(days=1), NOW + timedelta(days=1)
    found = [archive("a", None), archive("b", later), archive("c", past, later), archive("d", past)]
    plan = plan_archives(found, NOW)
    assert [(point.verdict, point.reason) for point in plan.points] == [
        (Verdict.KEPT, "archive, kept for ever"),
        (Verdict.KEPT, "archive, kept until 2026-11-22T12:00+00:00"),
        (Verdict.KEPT, "locked until 2026-11-22T12:00+00:00"),
        (Verdict.DELETED, "archive, expired 2026-11-20T12:00+00:00"),
    ]
    [removal] = plan.removals
    assert (removal.chain, removal.files, removal.bytes_freed, removal.is_whole_chain) == ("d", ("a",), 100, True)


def test_files_of_one_archive_go_together_or_not_at_all() -> None:
    both = ArchiveFact(
        chain=ChainFact(chain="one", files=(file_of("a"), file_of("b"))), expires=(NOW - timedelta(days=1), None)
    )
    plan = plan_archives([both], NOW)
    assert [point.verdict for point in plan.points] == [Verdict.KEPT, Verdict.KEPT]
    assert plan.is_idle


@pytest.mark.parametrize(
    "text, expires",
    [
        ("never", None),
        ("30d", NOW + timedelta(days=30)),
        (" 8W ", NOW + timedelta(weeks=8)),
        ("2026-11-21", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2027-06-30", datetime(2027, 7, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_days_weeks_or_the_last_day(text: str, expires: datetime | None) -> None:
    assert parse_expiry(text, NOW) == expires


@pytest.mark.parametrize("text", ["", "soon", "0d", "30", "-3d", "2026-13-01", "2026-11-20", "9999-12-31", "99999w"])
def test_what_cannot_be_read_or_is_past_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid):
        parse_expiry(text, NOW)


def test_an_archive_says_until_when_it_is_kept() -> None:
    assert kept_words(Archive()) == "kept for ever"
    assert kept_words(Archive(expires=NOW)) == "kept until 2026-11-21T12:00+00:00"
