"""Active fulls come on their days, and each point says which kind it is and why."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions, PointKind
from holdfast.model.retention import Method
from holdfast.model.spans import Span
from holdfast.storage.chains.chain import Chain
from holdfast.storage.intake.fulls import full_day
from holdfast.storage.methods.applying import ChainWish, apply_method
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_merging import folder_of
from tests.holdfast.storage.methods.test_synthesis import check, protected

EVERY_DAY = FullDays(weekdays=tuple(range(7)))
SATURDAY = datetime(2026, 11, 21, 23, tzinfo=UTC)
DAY = timedelta(days=1)


def test_the_day_of_a_full_is_that_of_its_session_in_the_zone_of_the_job(files: CrashFiles) -> None:
    machine = protected(files, points=2)
    with Chain.open(files, folder_of(machine)) as chain:
        made = chain.files[0].contents.created
        days = {zone: full_day(chain, ZoneInfo(zone)) for zone in ("UTC", "Pacific/Kiritimati")}
    assert days["UTC"] == made.date()
    assert days["Pacific/Kiritimati"] == (made + timedelta(hours=14)).date()


def test_active_fulls_are_made_by_the_days_of_the_job(files: CrashFiles) -> None:
    machine = protected(files, points=2)
    first = machine.kept[0].summary.chain
    machine.store = machine.store.__class__(
        unit_size=machine.store.unit_size, fulls=FullPolicy(active=EVERY_DAY, synthetic=EVERY_DAY)
    )
    machine.disks["a"].write(Span(0, PIECE_SIZE))
    machine.sessions += 1
    opened = machine.begin()
    assert (opened.chain, opened.kind) == (first, "increment")
    assert opened.reason.startswith("the newest chain is continued: no full is due, the last one is of 20")
    machine.transfer_all(opened)
    machine.finish(opened)
    machine.clock = LaterClock(days=1)
    machine.sessions += 1
    opened = machine.begin()
    assert (opened.kind, opened.chain != first) == ("full", True)
    assert opened.reason.startswith("active full: due on monday")
    assert machine.begin().chain == opened.chain
    machine.transfer_all(opened)
    machine.finish(opened)
    assert machine.back_up().kind == "increment"
    check(machine)
    fulls = FullPolicy(synthetic=EVERY_DAY)
    machine.store = machine.store.__class__(unit_size=machine.store.unit_size, fulls=fulls)
    machine.clock = LaterClock(days=3)
    machine.sessions += 1
    assert machine.begin().reason.startswith("the newest chain is continued, to become a synthetic full: due on")


def session(machine: ProtectedMachine, began: datetime, policy: FullPolicy) -> PointKind:
    """Back a machine up in a session that takes its snapshot when midnight is over; return what became of it."""
    machine.store = msgspec.structs.replace(machine.store, began=began, fulls=policy)
    machine.clock = StillClock(began + timedelta(hours=2))
    point = machine.back_up()
    if point.kind == "full":
        return PointKind.ACTIVE
    wish = ChainWish(options=MethodOptions(method=Method.FORWARD, fulls=policy), began=began)
    made = apply_method(machine.repository, folder_of(machine), None, wish, lambda _: None)
    return PointKind.SYNTHETIC if made.what == "synthetic full" else PointKind.INCREMENT


@pytest.mark.parametrize("kind", [PointKind.ACTIVE, PointKind.SYNTHETIC])
def test_a_full_behind_midnight_is_that_of_the_day_on_which_its_session_began(
    files: CrashFiles, kind: PointKind
) -> None:
    machine = make_machine({"a": 4}, files)
    weekend = FullDays(weekdays=(5, 6))
    policy = FullPolicy(active=weekend) if kind is PointKind.ACTIVE else FullPolicy(synthetic=weekend)
    made = [session(machine, SATURDAY + number * DAY, policy) for number in range(-2, 3)]
    assert made == [PointKind.ACTIVE, PointKind.INCREMENT, kind, kind, PointKind.INCREMENT]


class StillClock:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return 0.0


class LaterClock:
    """A clock that is days ahead."""

    def __init__(self, days: int) -> None:
        self._ahead = timedelta(days=days)

    def now(self) -> datetime:
        return SystemClock().now() + self._ahead

    def monotonic_s(self) -> float:
        return 0.0
