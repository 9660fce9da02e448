"""A machine that is backed up one day after the other."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.retention import KeepUnit, RetentionOptions, RetentionPolicy
from holdfast.model.spans import Span
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.retention.looking import MachinePlan, PlanWish, SeenMachine, look_at_machine, plan_machine
from holdfast.testing.chains import CHEAP, ProtectedMachine
from tests.holdfast.storage.conftest import PIPE

FIRST_DAY = datetime(2026, 11, 1, 22, tzinfo=UTC)


class DayClock:
    """Stands at a moment until it is moved."""

    def __init__(self) -> None:
        self.moment = FIRST_DAY

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return self.moment.timestamp()


def on_disk(folder: Path) -> ProtectedMachine:
    """A machine whose repository is in a folder of the host."""
    repository = Repository.create(folder, HostFiles(), "id", SystemClock().now())
    store = StoreOptions(unit_size=256 << 10, passphrase=None, passphrase_cost=CHEAP)
    return ProtectedMachine(repository, 1, {"disk0": 6 * 65536}, store, PIPE)


def age(machine: ProtectedMachine, points: int, *, behind: int = 0) -> DayClock:
    """Make a point a day, each with another piece changed; return the clock, which stands at the newest.

    ``behind`` is how many days there are before the first of them.
    """
    clock = DayClock()
    machine.clock = clock
    for number in range(behind, behind + points):
        clock.moment = FIRST_DAY + timedelta(days=number)
        disk = next(iter(machine.disks.values()))
        disk.write(Span(number % 6 * PIECE_SIZE, PIECE_SIZE))
        machine.back_up()
    return clock


def points_rule(keep: int, *, lock_days: int = 0) -> RetentionOptions:
    return RetentionOptions(policy=RetentionPolicy(keep=keep, unit=KeepUnit.POINTS), lock_days=lock_days)


def look(machine: ProtectedMachine) -> SeenMachine:
    folder = machine.repository.machine_folder(machine.machine_id, machine.name)
    return look_at_machine(machine.repository, folder, machine.store.passphrase)


def planned(machine: ProtectedMachine, options: RetentionOptions, *, has_consent: bool = True) -> MachinePlan:
    wish = PlanWish(options=options, now=machine.clock.now(), has_consent=has_consent)
    return plan_machine(look(machine), wish)
