"""Sessions are told from the catalog."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.catalog.database import Catalog
from holdfast.errors import CatalogUnavailable, RequestInvalid, SessionNotFound
from holdfast.model.ids import DiskKey, JobName, MachineId, RepositoryName, SessionId
from holdfast.model.session import Figures, Outcome, Problem, Session, SessionKind, Task
from tests.workers.cli.place import Place

START = datetime(2025, 6, 1, 22, 0, tzinfo=UTC)


def session(number: int) -> Session:
    return Session(
        session_id=SessionId(f"2025060{number}-b{number}aa"),
        kind=SessionKind.BACKUP,
        job=JobName("nightly"),
        repository=RepositoryName("main"),
        outcome=Outcome.RUNNING,
        started=START + timedelta(days=number),
    )


@pytest.fixture
def told(place: Place) -> Place:
    """A place whose catalog knows two sessions: one that succeeded and a newer one that failed."""
    with Catalog.open(place.settings.catalog_url, place.clock) as catalog:
        for number, outcome in ((1, Outcome.SUCCESS), (2, Outcome.FAILED)):
            running = session(number)
            catalog.sessions.begin(running)
            problem = Problem(code="repository-full", message="no space", hint="Free some.")
            catalog.sessions.record_task(
                Task(
                    session_id=running.session_id,
                    machine_id=MachineId("m1"),
                    machine_name="web",
                    disk=DiskKey("boot"),
                    outcome=outcome,
                    detail="full: no earlier point",
                    figures=Figures(size_bytes=1 << 30, read_bytes=1 << 29, duration_s=2.0),
                    problem=problem if outcome is Outcome.FAILED else None,
                )
            )
            ended = msgspec.structs.replace(
                running,
                outcome=outcome,
                ended=running.started + timedelta(minutes=5),
                figures=Figures(
                    processed_bytes=1 << 30,
                    read_bytes=3 << 29,
                    transferred_bytes=3 << 27,
                    stored_bytes=1 << 28,
                    duration_s=10.0,
                    source_s=1.0,
                    proxy_s=9.0,
                ),
                problem=problem if outcome is Outcome.FAILED else None,
                notes=("read in full",),
            )
            catalog.sessions.finish(ended)
    return place


def test_names_that_look_like_markup_are_names(place: Place) -> None:
    problem = Problem(code="repository-full", message="no space on [/data]", hint="Free [some].")
    with Catalog.open(place.settings.catalog_url, place.clock) as catalog:
        running = session(1)
        catalog.sessions.begin(running)
        task = Task(
            session_id=running.session_id,
            machine_id=MachineId("m1"),
            machine_name="mail [/old]",
            disk=DiskKey("boot [x]"),
            outcome=Outcome.FAILED,
            detail="",
            figures=Figures(read_bytes=1, duration_s=1.0, source_s=1.0, proxy_s=0.5),
            problem=problem,
        )
        catalog.sessions.record_task(task)
        ended = running.started + timedelta(minutes=5)
        catalog.sessions.finish(
            msgspec.structs.replace(
                running, outcome=Outcome.FAILED, ended=ended, problem=problem, notes=("kept [as] /x [/b]",)
            )
        )
    listed = place.run("sessions")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert "no space on [/data]" in listed.stdout
    shown = place.run("sessions", "show", "latest", "--html", str(place.root / "page.html"))
    assert shown.exit_code == 0
    page = (place.root / "page.html").read_text()
    for word in ("mail [/old]", "boot [x]", "no space on [/data]", "Free [some].", "kept [as] /x [/b]"):
        assert word in shown.stdout
        assert word in page


def test_without_a_catalog_it_is_said(place: Place) -> None:
    error = place.json("sessions", status=CatalogUnavailable.exit_status)["error"]
    assert "no catalog" in error["message"]


def test_the_newest_session_comes_first(told: Place) -> None:
    assert [s["session_id"] for s in told.json("sessions")["sessions"]] == ["20250602-b2aa", "20250601-b1aa"]
    shown = told.run("sessions").stdout
    assert "5 min 00 s" in shown
    assert "no space" in shown


@pytest.mark.parametrize(
    "words, count",
    [
        (("--outcome", "failed"), 1),
        (("--job", "weekly"), 0),
        (("--kind", "backup"), 2),
        (("--machine", "web"), 2),
        (("--days", "1"), 0),
        (("--limit", "1"), 1),
    ],
)
def test_sessions_can_be_chosen(told: Place, words: tuple[str, ...], count: int) -> None:
    assert len(told.json("sessions", *words)["sessions"]) == count


def test_a_session_is_shown_with_everything(told: Place) -> None:
    document = told.json("sessions", "show", "latest")
    assert document["session"]["problem"]["code"] == "repository-full"
    assert document["tasks"][0]["disk"] == "boot"
    assert document["events"][0]["text"] == "read in full"
    shown = told.run("sessions", "show", "20250602").stdout
    for word in ("no space (repository-full)", "Free some.", "web", "256 MiB/s", "read in full"):
        assert word in shown
    facts = dict(line.rstrip().split(maxsplit=1) for line in shown.splitlines() if len(line.split()) > 1)
    assert facts["processed"] == "1.0 GiB"
    assert facts["transferred"] == "384 MiB"
    assert facts["rate"] == "5.1 MiB/s"
    assert facts["bottleneck"] == "Proxy (Source 10 %, Proxy 90 %, Target 0 %)"
    assert document["bottleneck"] == "Proxy"


def test_the_beginning_of_an_id_has_to_be_one_sessions(told: Place) -> None:
    assert told.json("sessions", "show", "2025", status=RequestInvalid.exit_status)["error"]
    assert told.json("sessions", "show", "2026", status=SessionNotFound.exit_status)["error"]


def test_a_session_is_found_by_its_id_behind_the_date(told: Place) -> None:
    assert told.json("sessions", "show", "b2")["session"]["session_id"] == "20250602-b2aa"
    assert told.json("sessions", "show", "b", status=RequestInvalid.exit_status)["error"]["hint"]
    assert told.json("sessions", "show", "aa", status=SessionNotFound.exit_status)["error"]
