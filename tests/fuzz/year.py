"""A year of a repository in a minute: daily sessions, retention, fulls and compaction, with machines that come and go.

Everything is what the product does, on the model file system; only the clock and the hypervisor are made up. Any
operation may be cut off by a death of its process or by a loss of power, and is then done again, or given up for the
day. An oracle of its own, which knows days and calendars but nothing of chains, says which points have to be there; and
whatever is listed has to read as the disks were.
"""

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.ids import MachineId, PointId
from holdfast.model.points import PointSummary
from holdfast.model.spans import Span
from holdfast.pipeline.stages import PipeOptions
from holdfast.planning.grace import PurgeRule
from holdfast.planning.retention import Verdict
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.chains.repository import Repository
from holdfast.storage.intake.finishing import summarize
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.methods.applying import ChainWish, apply_method, compact_if_due, newest_chain
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.storage.retention.graveyard import purge_machine
from holdfast.storage.retention.looking import PlanWish, look_at_machine, plan_machine, take_note
from holdfast.testing.chains import CHEAP, KeptPoint, ProtectedMachine, point_differences
from holdfast.testing.crash_states import died, lost_power
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from tests.fuzz.explorer import is_complete
from tests.fuzz.year_oracle import Oracle, Remembered
from tests.fuzz.year_rules import draw_rules

ROOT = Path("/repository")
BEGIN = datetime(2027, 1, 1, 22, tzinfo=UTC)
UNIT = 256 << 10
PIPE = PipeOptions(compression=Compression.NONE, commit_new_bytes=UNIT, commit_interval_s=1e9, threads=1)
MACHINES_MAX = 3
DISKS_MAX = 3
CRASH_SHARE = 0.06
GIVEN_UP_SHARE = 0.3
_EVENTS_BEFORE_CRASH = 90
_T = TypeVar("_T")


class Crash(BaseException):
    """The process is gone. Nothing in the product may catch it."""


class DayClock(SystemClock):
    """A clock that stands at the time of the day's sessions."""

    def __init__(self) -> None:
        self.time = BEGIN

    @override
    def now(self) -> datetime:
        return self.time


class YearMachine:
    """A machine that is protected, or was."""

    def __init__(self, number: int, protected: ProtectedMachine, oracle: Oracle) -> None:
        self.number = number
        self.protected = protected
        self.oracle = oracle
        self.last_tried = BEGIN.date()
        self.is_protected = False
        """Whether the session of the day came to its end; only then chains are changed by their method."""
        self.is_there = True

    @property
    def points(self) -> dict[PointId, Remembered]:
        """Return the points that the oracle knows."""
        return self.oracle.points


class Year:
    """One simulated year; `run` raises `AssertionError` when a point is lost or wrong."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rules = draw_rules(self.rng)
        self.clock = DayClock()
        self.files = CrashFiles([Path("/")])
        self.repository = Repository.create(ROOT, self.files, "id", BEGIN)
        self.machines: list[YearMachine] = []
        self.done: Counter[str] = Counter()
        """What happened, and how often."""

    def run(self, days: int = 365) -> None:
        """Live through the days, and look at everything every two months and at the end."""
        for day in range(days):
            self.clock.time = BEGIN + timedelta(days=day)
            self.files.events.clear()
            self._churn()
            for machine in self.machines:
                if machine.is_there:
                    self._live(machine)
            for machine in self.machines:
                self._keep_house(machine)
                if day % 4 == machine.number % 4:
                    self._check(machine, samples=1)
            if day % 60 == 59:
                self._check_all()
        self._check_all()

    @property
    def today(self) -> date:
        """Return the day it is."""
        return self.clock.time.date()

    # -- what happens --------------------------------------------------------------------------------------------

    def _churn(self) -> None:
        there = [machine for machine in self.machines if machine.is_there]
        if there and self.rng.random() < 0.01:
            self.rng.choice(there).is_there = False
            self.done["machines gone"] += 1
        if not there or (len(there) < MACHINES_MAX and self.rng.random() < 0.005):
            self.machines.append(self._new_machine())
        self.machines = [machine for machine in self.machines if machine.is_there or machine.points]

    def _new_machine(self) -> YearMachine:
        self.done["machines"] += 1
        number = self.done["machines"]
        sizes = {f"disk{index}": self.rng.randint(2, 7) * PIECE_SIZE for index in range(self.rng.randint(1, 2))}
        store = StoreOptions(
            unit_size=UNIT,
            passphrase=self.rules.passphrase,
            fulls=self.rules.method.fulls,
            passphrase_cost=CHEAP,
        )
        protected = ProtectedMachine(self.repository, number * 10, sizes, store, PIPE)
        protected.machine_id = MachineId(f"machine-{number}")
        protected.name = f"machine {number}"
        protected.clock = self.clock
        for disk in protected.disks.values():
            disk.write(Span(0, disk.size_bytes))
        return YearMachine(number, protected, Oracle(self.rules.retention))

    def _live(self, machine: YearMachine) -> None:
        """Let the machine write, and protect it."""
        protected = machine.protected
        if self.rng.random() < 0.02:
            return  # the job did not run that day
        machine.last_tried = self.today
        self._write(machine)
        protected.sessions += 1
        machine.is_protected = False
        summary = self._surviving(lambda: self._back_up(machine))
        machine.is_protected = summary is not None
        made = [summary.point_id] if summary is not None else set(self._listed(machine)) - set(machine.points)
        for point in made:
            if summary is None:  # it was complete when the session was given up
                self._keep_complete(machine, *self._listed(machine)[PointId(point)])
            self.done["points"] += 1
            disks = {key: disk.copy() for key, disk in protected.disks.items()}
            machine.points[PointId(point)] = Remembered(day=self.today, disks=disks)

    def _keep_complete(self, machine: YearMachine, name: str, number: int) -> None:
        with self.repository.open_chain(name, self.rules.passphrase) as chain:
            machine.protected.keep(summarize(self.repository, chain.folder, *chain.point(number)))

    def _write(self, machine: YearMachine) -> None:
        protected, rng = machine.protected, self.rng
        for key, disk in list(protected.disks.items()):
            if rng.random() < 0.02:
                disk.resize(disk.size_bytes + PIECE_SIZE)
                self.done["disks grown"] += 1
            if rng.random() < 0.005 and disk.size_bytes > 2 * PIECE_SIZE:
                disk.resize(disk.size_bytes - PIECE_SIZE)
                self.done["disks shrunk"] += 1
            if rng.random() < 0.005 and len(protected.disks) > 1:
                del protected.disks[key]
                self.done["disks removed"] += 1
                continue
            for _ in range(rng.randint(0, 2)):
                first = rng.randrange(disk.size_bytes // PIECE_SIZE) * PIECE_SIZE
                disk.write(Span(first + 512, rng.randint(1, 64) * 512))
            if rng.random() < 0.1:
                disk.zero(Span(rng.randrange(disk.size_bytes // PIECE_SIZE) * PIECE_SIZE, PIECE_SIZE))

        if rng.random() < 0.005 and len(protected.disks) < DISKS_MAX:
            self._add_disk(machine)

    def _add_disk(self, machine: YearMachine) -> None:
        self.done["disks added"] += 1
        disk = PatternedDisk(self.rng.getrandbits(32), self.rng.randint(2, 7) * PIECE_SIZE)
        disk.write(Span(0, disk.size_bytes))
        machine.protected.disks[f"disk{self.done['disks added'] + 1}"] = disk

    def _back_up(self, machine: YearMachine) -> PointSummary:
        """Do a session, from wherever it was interrupted."""
        protected = machine.protected
        opened = protected.begin()
        if not is_complete(self.repository, opened, self.rules.passphrase):
            protected.transfer_all(opened)
        return protected.finish(opened)

    def _keep_house(self, machine: YearMachine) -> None:
        """Do what follows a session: the method, retention, compaction; and purge what was removed long enough ago."""
        if not machine.points:
            return
        is_gone = (self.today - machine.last_tried).days > (self.rules.retention.gone_after_days or 0)
        protected = machine.protected
        folder = self.repository.machine_folder(protected.machine_id, protected.name)
        is_due = not is_gone and machine.last_tried == self.today and machine.is_protected
        if is_due:
            self._surviving(lambda: self._apply_method(folder))
        kept = self._surviving(lambda: self._retain(machine, folder, is_gone=is_gone))
        self._judge(machine, kept, is_gone=is_gone)
        if is_due and self.rules.method.compact is not None:
            self._surviving(lambda: self._compact(folder))
        rule = PurgeRule(now=self.clock.time, grace_days=self.rules.retention.grace_days)
        purged = self._surviving(lambda: purge_machine(self.repository, folder, rule))
        self.done["files purged"] += 0 if purged is None else purged.files

    def _apply_method(self, folder: Path) -> bool:
        wish = ChainWish(options=self.rules.method, began=self.clock.time)
        chain = newest_chain(self.repository, folder, self.rules.passphrase)
        change = apply_method(self.repository, chain, self.rules.passphrase, wish, lambda _: None)
        self.done["fulls made" if "full" in change.what else "rollbacks made"] += bool(change.what)
        return True

    def _compact(self, folder: Path) -> bool:
        wish = ChainWish(options=self.rules.method, began=self.clock.time)
        chain = newest_chain(self.repository, folder, self.rules.passphrase)
        change = compact_if_due(self.repository, chain, self.rules.passphrase, wish, lambda _: None)
        self.done["compacted"] += bool(change.what)
        return True

    def _retain(self, machine: YearMachine, folder: Path, *, is_gone: bool) -> set[PointId]:
        """Plan, note, carry out; return the points that the plan keeps."""
        seen = look_at_machine(self.repository, folder, self.rules.passphrase)
        wish = PlanWish(options=self.rules.retention, now=self.clock.time, is_gone=is_gone, has_consent=True)
        plan = plan_machine(seen, wish)
        files = [file for chain in plan.facts for file in chain.files if file.kind == "full"]
        fulls = {file.point.point_id for file in files}
        # A full that moves on to later points keeps its name.
        made = {file.point.point_id for file in files if int(file.name[:8]) == file.point.number}
        machine.oracle.look(fulls, made)
        take_note(self.repository, seen, plan, wish)
        machine.oracle.noted(fulls, made)
        worker = StepWorker(self.repository, self.rules.passphrase, self.clock.time)
        for step in plan.steps:
            worker.run(step, lambda _files, _size: None)
            self.done["merges" if step.into else "removals"] += 1
        return {one.point_id for one in plan.judgement.plan.points if one.verdict is Verdict.KEPT}

    # -- crashes -------------------------------------------------------------------------------------------------

    def _surviving(self, operation: Callable[[], _T]) -> _T | None:
        """Do an operation, again after each crash; None when it was given up for the day."""
        while True:
            base, at = None, 0
            if self.rng.random() < CRASH_SHARE:
                base, at = self.files.copy(), self.rng.randint(1, _EVENTS_BEFORE_CRASH)
                self.files.events.clear()
                self.files.after_event = _crash_at(at)
            try:
                return operation()
            except Crash:
                assert base is not None
                self._come_back(base, at)
                if self.rng.random() < GIVEN_UP_SHARE:
                    self.done["given up"] += 1
                    return None
            finally:
                self.files.after_event = lambda _: None

    def _come_back(self, base: CrashFiles, at: int) -> None:
        """Go on with what a crash left."""
        events = self.files.events[:at]
        if self.rng.random() < 0.5:
            self.done["power losses"] += 1
            self.files = lost_power(base, events, self.rng).files()
        else:
            self.done["deaths"] += 1
            self.files = died(base, events).files()
        self.repository = Repository.open(ROOT, self.files)
        for machine in self.machines:
            machine.protected.repository = self.repository

    # -- what has to be ------------------------------------------------------------------------------------------

    def _judge(self, machine: YearMachine, kept: set[PointId] | None, *, is_gone: bool) -> None:
        """Compare what retention left with what the oracle wants, and forget what it rightly took away.

        ``kept`` is what the plan wanted, None when it was given up half-way.
        """
        listed = self._listed(machine)
        there, oracle = set(listed), machine.oracle
        wanted = oracle.wanted(self.today, is_gone=is_gone)
        assert wanted <= there, (
            f"{self.today}: points of {sorted(machine.points[p].day for p in wanted - there)} are lost"
        )
        unknown = there - set(machine.points)
        assert not unknown, f"{self.today}: nobody made {unknown}"
        assert kept is None or there == kept, f"{self.today}: {len(there)} points are there, the plan had others"
        surplus = set() if kept is None else oracle.surplus(wanted, {p: chain for p, (chain, _) in listed.items()})
        assert not surplus, f"{self.today}: points of {sorted(machine.points[p].day for p in surplus)} should have gone"
        oracle.points = {point: machine.points[point] for point in machine.points if point in there}

    def _listed(self, machine: YearMachine) -> dict[PointId, tuple[str, int]]:
        protected = machine.protected
        folder = self.repository.machine_folder(protected.machine_id, protected.name)
        found: dict[PointId, tuple[str, int]] = {}
        for chain in self.repository.chain_folders(folder):
            if not chain_file_names(self.files, chain):
                continue
            name = self.repository.relative(chain)
            with self.repository.open_chain(name, self.rules.passphrase) as opened:
                found |= {PointId(p.id): (name, p.number) for _, p in opened.points() if p.complete}
        return found

    def _check(self, machine: YearMachine, samples: int) -> None:
        """Read points and compare every byte."""
        if not machine.points:
            return
        listed = self._listed(machine)
        lost = set(machine.points) - set(listed)
        assert not lost, f"{self.today}: points of {sorted(machine.points[p].day for p in lost)} are lost"
        for point in self.rng.sample(sorted(listed), min(samples, len(listed))):
            self._read(machine, point, *listed[point])

    def _read(self, machine: YearMachine, point: PointId, chain: str, number: int) -> None:
        template = machine.protected.kept[-1].summary
        summary = msgspec.structs.replace(template, chain=chain, number=number)
        kept = KeptPoint(summary, machine.points[point].disks)
        differences = list(point_differences(self.repository, kept, self.rules.passphrase))
        assert not differences, f"{self.today}: {differences}"
        self.done["points read"] += 1

    def _check_all(self) -> None:
        for machine in self.machines:
            self._check(machine, samples=len(machine.points))
        assert not self.files.open_handles, [handle.path.name for handle in self.files.open_handles]


def _crash_at(count: int) -> Callable[[int], None]:
    def after(events: int) -> None:
        if events >= count:
            raise Crash

    return after
