"""The page of a session says what the terminal says and draws its chains."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.catalog.database import Catalog
from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.points import PointSummary
from holdfast.model.session import Outcome, Task
from tests.workers.cli.place import Place
from tests.workers.cli.retained import recorded
from tests.workers.cli.stored import back_up
from tests.workers.cli.test_chain_svg import parsed
from tests.workers.cli.test_sessions import session
from workers.cli.session_page import session_page

CONTENT = random.Random(1).randbytes(4 << 16)


def tell(place: Place, *points: PointSummary) -> None:
    """Let the catalog know a session of the machine, and points, of which the last is the session's."""
    with Catalog.open(place.settings.catalog_url, place.clock) as catalog:
        running = session(1)
        catalog.sessions.begin(running)
        catalog.sessions.record_task(
            Task(
                session_id=running.session_id,
                machine_id=MachineId("m1"),
                machine_name="web <01>",
                disk=DiskKey("boot"),
                outcome=Outcome.SUCCESS,
            )
        )
        for point in points:
            catalog.points.record(recorded(point, running.session_id))
        catalog.sessions.finish(msgspec.structs.replace(running, outcome=Outcome.SUCCESS, notes=("<read> & told",)))


def page_of(place: Place, target: Path, *more: str) -> tuple[Any, str]:
    document = place.json("sessions", "show", "latest", "--html", str(target), *more)
    return document, target.read_text(encoding="utf-8")


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_a_page_says_what_was_done_and_draws_the_chain(place: Place, tmp_path: Path, *, encrypted: bool) -> None:
    point = back_up(place, 1, CONTENT, encrypted=encrypted)
    tell(place, point)
    document, page = page_of(place, tmp_path / "report.html", *(("--credential", "night") if encrypted else ()))
    assert (document["html"], document["chains"]) == (str(tmp_path / "report.html"), [point.chain])
    assert "web &lt;01&gt;" in page
    assert "&lt;read&gt; &amp; told" in page
    picture = parsed(page[page.index("<svg ") : page.index("</svg>") + len("</svg>")])
    assert picture.get("aria-label") == point.chain


def test_a_chain_that_is_gone_is_told_and_leaves_the_page(place: Place, tmp_path: Path) -> None:
    point = back_up(place, 1, CONTENT)
    tell(place, msgspec.structs.replace(point, chain="machines/web-01-00000000/000001-00000000"))
    document, page = page_of(place, tmp_path / "report.html")
    assert document["chains"] == []
    assert "No chain of this session can be shown." in page


def test_without_the_option_nothing_is_drawn(place: Place) -> None:
    tell(place, back_up(place, 1, CONTENT))
    assert "html" not in place.json("sessions", "show", "latest")


def test_a_page_needs_nothing_beside_it() -> None:
    page = session_page(session(1), ["[bold]what[/] happened"], [])
    assert "what" in page
    assert not any(word in page for word in ("http://", "https://", "src=", "href="))
