"""Text and times that both engines accept and order alike."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Dialect, make_url

from holdfast.catalog.columns import UtcTime, storable
from holdfast.catalog.database import Catalog
from tests.holdfast.catalog.samples import ENDED, SESSION, moments

SQLITE = make_url("sqlite://").get_dialect()()
POSTGRESQL = make_url("postgresql+psycopg://").get_dialect()()


def test_what_a_database_refuses_is_written_as_an_escape() -> None:
    assert storable("a\0b\udcffc") == "a\\x00b\\udcffc"


@given(st.text())
def test_storable_text_is_utf_8_and_stays_as_it_is(text: str) -> None:
    once = storable(text)
    assert once.encode("utf-8").decode("utf-8") == once
    assert storable(once) == once


def test_a_session_with_unprintable_names_is_kept_and_found(catalog: Catalog) -> None:
    session = msgspec.structs.replace(SESSION, job="night\0ly", notes=("disk \udcff is gone",))
    catalog.sessions.begin(session)
    catalog.sessions.finish(msgspec.structs.replace(ENDED, notes=session.notes))
    kept = catalog.sessions.get(session.session_id)
    assert kept.job == "night\\x00ly"
    assert kept.notes == ("disk \\udcff is gone",)


@given(moments, moments)
def test_times_sort_as_text_like_the_moments_they_stand_for(one: datetime, two: datetime) -> None:
    first, second = (UtcTime().process_bind_param(moment, SQLITE) for moment in (one, two))
    assert isinstance(first, str)
    assert isinstance(second, str)
    assert (first < second) == (one < two)


@pytest.mark.parametrize("dialect", [SQLITE, POSTGRESQL], ids=lambda dialect: dialect.name)
def test_a_moment_of_any_zone_is_stored_in_utc(dialect: Dialect) -> None:
    moment = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    stored = UtcTime().process_bind_param(moment, dialect)
    restored = UtcTime().process_result_value(stored, dialect)
    assert restored == moment
    assert restored is not None
    assert restored.tzinfo is UTC


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(AssertionError, match="zone"):
        UtcTime().process_bind_param(datetime(2026, 3, 1), SQLITE)  # noqa: DTZ001 - on purpose
