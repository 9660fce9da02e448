"""Version 2 adds how long each stage was busy, and knows nothing of what ran before."""

from contextlib import closing
from datetime import UTC, datetime

from sqlalchemy import insert, select

from holdfast.catalog.connection import Access, Database, parse_address
from holdfast.catalog.rows import session_of, session_row
from holdfast.catalog.schema import sessions
from holdfast.catalog.upgrade import upgrade
from holdfast.model.ids import JobName, RepositoryName, SessionId
from holdfast.model.session import Figures, Outcome, Session, SessionKind
from holdfast.planning.bottleneck import bottleneck

STAGES = ("source_s", "proxy_s", "network_s", "target_s", "throttled_s")
BEFORE = Session(
    session_id=SessionId("s1"),
    kind=SessionKind.BACKUP,
    job=JobName("nightly"),
    repository=RepositoryName("main"),
    outcome=Outcome.SUCCESS,
    started=datetime(2025, 1, 1, tzinfo=UTC),
    figures=Figures(read_bytes=7, duration_s=3.0),
)


def test_a_session_of_an_earlier_version_keeps_its_figures_and_has_no_bottleneck(address: str) -> None:
    url = parse_address(address)
    upgrade(url, lock_timeout_s=1, target="0001")
    row = {name: value for name, value in session_row(BEFORE).items() if name not in STAGES}
    database = Database(url, Access.WRITE)
    with closing(database), database.writing() as connection:
        connection.execute(insert(sessions).values(row))
    upgrade(url, lock_timeout_s=1, target="0002")
    database = Database(url, Access.READ)
    with closing(database), database.reading() as connection:
        found = session_of(connection.execute(select(sessions)).mappings().one(), ())
    assert found == BEFORE
    assert bottleneck(found.figures) is None
