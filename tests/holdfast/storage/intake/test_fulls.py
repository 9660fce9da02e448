"""Active fulls come on their days, and each point says which kind it is and why."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.fulls import FullDays, FullPolicy
from holdfast.model.spans import Span
from holdfast.storage.chains.chain import Chain
from holdfast.storage.intake.fulls import full_day
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.methods.test_merging import folder_of
from tests.holdfast.storage.methods.test_synthesis import check, protected

EVERY_DAY = FullDays(weekdays=tuple(range(7)))


def test_the_day_of_a_full_is_that_of_its_making_in_the_zone_of_the_job(files: CrashFiles) -> None:
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


class LaterClock:
    """A clock that is days ahead."""

    def __init__(self, days: int) -> None:
        self._ahead = timedelta(days=days)

    def now(self) -> datetime:
        return SystemClock().now() + self._ahead

    def monotonic_s(self) -> float:
        return 0.0
