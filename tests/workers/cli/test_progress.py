"""Progress is shown at a bearable pace, and says what is slow and what went wrong."""

import io
from datetime import UTC, datetime

import msgspec
import pytest

from activities.contracts.repository import VerifyCursor
from activities.contracts.retention import CarryOutCursor
from holdfast.model.points import VerifyReport
from tests.workers.cli.place import Place
from workers.cli.invocation import Flags, Invocation, console
from workers.cli.progress import LineDisplay, LiveDisplay, SilentDisplay, display_for, drawing
from workers.cli.sights import DiskSight, Sight, Step

MOVING = DiskSight(
    machine="web",
    disk="boot",
    size_bytes=1 << 30,
    state="transferring",
    reached_bytes=1 << 29,
    committed_bytes=1 << 28,
    rate_bytes_s=float(1 << 26),
    busy_shares={"Source": 0.25, "Proxy": 0.9},
    bottleneck="Proxy",
    attempt=2,
    resumed_bytes=1 << 27,
)
DONE = DiskSight(
    machine="web", disk="data", size_bytes=1 << 20, state="done", detail="full: first", reached_bytes=1 << 20
)


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return datetime(2025, 1, 1, tzinfo=UTC)

    def monotonic_s(self) -> float:
        return self.seconds


def shown(sight: Sight) -> str:
    stream = io.StringIO()
    console(stream).print(drawing(sight))
    return stream.getvalue()


def test_a_drawing_tells_rate_rest_bottleneck_and_attempt() -> None:
    text = shown(Sight(is_closed=False, phase="copying", disks=(DONE, MOVING), notes=("a note",)))
    assert text.index("web/boot") < text.index("web/data")
    for word in (
        "copying",
        "50 %",
        "1.0 GiB",
        "64 MiB/s",
        "8.0 s",
        "busy: Source 25 % > Proxy 90 %, bottleneck: Proxy",
        "attempt 2, resumed at 128 MiB",
        "done (full: first)",
        "a note",
    ):
        assert word in text


def test_a_drawing_tells_what_is_waited_for() -> None:
    steps = (
        Step(name="snapshot.create", workflow_id="w", is_waiting=True, attempt=1),
        Step(name="repository.begin_point", workflow_id="w", is_waiting=False, attempt=3, problem="gone (x)"),
        Step(name="catalog.record_task", workflow_id="w", is_waiting=False, attempt=1),
    )
    text = shown(Sight(is_closed=False, steps=steps))
    assert "snapshot.create: waiting for a worker" in text
    assert "attempt 3, the last one ended with: gone (x)" in text
    assert "record_task" not in text


def test_many_disks_do_not_flood_the_terminal() -> None:
    assert "and 6 disks more" in shown(Sight(is_closed=False, disks=(DONE,) * 30))


def test_a_verification_is_told_with_what_it_found() -> None:
    cursor = VerifyCursor(
        chain="c", chains_done=1, chains=3, checked_bytes=1 << 20, partial=VerifyReport(unnamed_damages=2)
    )
    text = shown(Sight(is_closed=False, verified=cursor))
    assert "verified 1 of 3 chains, 1.0 MiB read, 2 damaged spans so far" in text


def test_merges_are_told_with_what_moved() -> None:
    cursors = (CarryOutCursor(files_done=1, files=3, moved_bytes=1 << 20), CarryOutCursor(files=1))
    text = shown(Sight(is_closed=False, retained=cursors))
    assert "retention of 2 chains: 1 of 4 files, 1.0 MiB moved" in text


def test_lines_come_now_and_then_and_changes_at_once() -> None:
    stream, clock = io.StringIO(), HandClock()
    sight = Sight(is_closed=False, phase="copying", disks=(MOVING, DONE), notes=("a note",))
    with LineDisplay(console(stream), clock) as display:
        display.update(sight)
        display.update(sight)
        first = stream.getvalue()
        clock.seconds += 5
        later = msgspec.structs.replace(MOVING, reached_bytes=1 << 30)
        display.update(Sight(is_closed=False, phase="copying", disks=(later,)))
        display.tell("[told]")
    figures = "50 %, 512 MiB of 1.0 GiB, 64 MiB/s, 8.0 s left, busy: Source 25 % > Proxy 90 %, bottleneck: Proxy"
    assert first.splitlines() == [
        "phase: copying",
        f"web/boot: {figures}, attempt 2, resumed at 128 MiB",
        "web/data: done (full: first)",
        "note: a note",
    ]
    assert stream.getvalue().removeprefix(first).splitlines()[0].startswith("web/boot: 100 %")
    assert stream.getvalue().endswith("[told]\n")


def test_a_terminal_gets_a_drawing_and_others_lines(place: Place) -> None:
    run = Invocation(Flags(config=place.config))
    assert isinstance(display_for(run), LineDisplay)
    run.err._force_terminal = True
    assert isinstance(display_for(run), LiveDisplay)


def test_nothing_is_drawn_when_nobody_reads(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    display = display_for(Invocation(Flags(config=place.config, json=True)))
    assert isinstance(display, SilentDisplay)
    with display:
        display.update(Sight(is_closed=False, phase="x"))
        display.tell("told")
    assert capsys.readouterr() == ("", "warning: told\n")


def test_the_live_drawing_is_taken_away_at_the_end() -> None:
    stream = io.StringIO()
    with LiveDisplay(console(stream)) as display:
        display.update(Sight(is_closed=False, phase="copying"))
        display.tell("told")
    assert "told" in stream.getvalue()
