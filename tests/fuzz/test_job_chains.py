"""Weeks of a job whose machines share a chain: each fails, dies, is left out or goes; what is listed reads."""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import msgspec
import pytest

from holdfast.errors import PointNotFound
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.retention import KeepUnit, Method, RetentionOptions, RetentionPolicy
from holdfast.model.spans import Span
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.applying import newest_chain
from holdfast.storage.methods.compacting import compact
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.storage.retention.looking import PlanWish, look_at_machine, plan_machine, take_note
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.explorer import UNIT, tell
from tests.holdfast.storage.aging import FIRST_DAY, DayClock
from tests.holdfast.storage.jobs import OWNER, Job


class Died(Exception):
    """The process is gone."""


class Weeks:
    """A job of three machines, and what is done in its sessions."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.job = Job(CrashFiles(), self.rng.choice([None, "secret"]))
        self.machines = [*self.job.machines, self.job.machine("c", {"disk0": 5, "disk1": 2}, 40)]
        self.method = self.rng.choice([Method.FOREVER, Method.FORWARD])
        self.gone: list[ProtectedMachine] = []
        self.clock, self.done = DayClock(), list[str]()
        for machine in self.machines:
            machine.clock = self.clock

    def session(self) -> None:
        self.clock.moment = FIRST_DAY + timedelta(days=len(self.done))
        share = 0.15 if self.method is Method.FORWARD else 0.03
        store = msgspec.structs.replace(self.job.store, full=self.rng.random() < share)
        there = [machine for machine in self.machines if machine not in self.gone]
        if len(there) > 1 and self.rng.random() < 0.05:
            self.gone.append(there.pop())
        if self.gone and self.rng.random() < 0.1:
            there.append(self.gone.pop())
        for machine in self.rng.sample(there, len(there)):
            machine.store, machine.sessions = store, len(self.done)
            for disk in machine.disks.values():
                disk.write(Span(self.rng.randrange(disk.size_bytes // PIECE_SIZE) * PIECE_SIZE, PIECE_SIZE))
            what = self.rng.choice(["protect", "protect", "protect", "fail", "die", "leave_out"])
            self.done.append(f"{what} {machine.name}")
            getattr(self, f"_{what}")(machine)

    def _protect(self, machine: ProtectedMachine) -> None:
        opened = machine.begin()
        machine.transfer_all(opened)
        machine.finish(opened)

    def _leave_out(self, machine: ProtectedMachine) -> None:
        """The session does not come to it."""

    def _fail(self, machine: ProtectedMachine) -> None:
        machine.transfer(machine.begin(), next(iter(machine.disks)))
        self._abandon(machine)

    def _die(self, machine: ProtectedMachine) -> None:
        if self._dies_in(lambda: self._protect(machine)):
            self.rng.choice([self._protect_again, self._abandon])(machine)

    def _dies_in(self, work: Callable[[], object]) -> bool:
        """Do something, and return whether the process died in it."""
        left = self.rng.randrange(1, 40)

        def die(_: str) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Died

        set_hook(die)
        try:
            work()
        except Died:
            return True
        finally:
            set_hook(None)
        return False

    def _protect_again(self, machine: ProtectedMachine) -> None:
        if not self._take_if_there(machine):
            self._protect(machine)

    def _abandon(self, machine: ProtectedMachine) -> None:
        self.job.abandon(machine)
        self._take_if_there(machine)

    def _take_if_there(self, machine: ProtectedMachine) -> bool:
        """Remember the point of this session when it was complete before the death."""
        session = f"session-{machine.sessions}"
        mine = (f.point for f in self.job.repository.points(self.job.store.passphrase, machine.machine_id))
        is_there = any(point.session == session and point.complete for point in mine)
        if is_there:
            machine.finish(machine.begin())
        return is_there

    def retain(self) -> None:
        policy = RetentionPolicy(keep=self.rng.randrange(1, 4), unit=KeepUnit.POINTS)
        options = RetentionOptions(policy=policy, method=self.method)
        gone = tuple(machine.machine_id for machine in self.gone)
        self._carry_out(PlanWish(options=options, now=self.clock.now(), has_consent=True, gone=gone))
        self.done.append(f"retain {policy.keep} without {gone}")

    def _carry_out(self, wish: PlanWish) -> None:
        passphrase, repository = self.job.store.passphrase, self.job.repository
        seen = look_at_machine(repository, repository.owner_folder(OWNER), passphrase)
        plan = plan_machine(seen, wish)
        take_note(repository, seen, plan, wish)
        for step in plan.steps:
            worker = StepWorker(repository, passphrase, self.clock.now())
            while self._dies_in(partial(worker.run, step, lambda _files, _bytes: None)):
                self.done.append(f"died in {step.files}")
            for machine in self.machines:
                newest = machine.kept[-1:]
                machine.kept = [kept for kept in machine.kept if kept.summary.point_id not in step.points]
                is_lost = machine.kept[-1:] != newest
                assert not is_lost or machine in self.gone, f"{machine.name} lost its newest point"

    def compact(self) -> None:
        repository, passphrase = self.job.repository, self.job.store.passphrase
        with suppress(PointNotFound):
            folder = newest_chain(repository, repository.owner_folder(OWNER), passphrase)
            while self._dies_in(partial(compact, self.job.files, folder, passphrase, commit_bytes=UNIT)):
                self.done.append("died in compaction")
            self.done.append("compacted")

    def check(self) -> None:
        passphrase = self.job.store.passphrase
        listed = [found for found in self.job.repository.points(passphrase) if found.point.complete]
        kept = {str(kept.summary.point_id) for machine in self.machines for kept in machine.kept}
        assert {found.point.id for found in listed} == kept
        assert len(listed) == len(kept)
        for machine in self.machines:
            assert machine.differences() == []
        for name in {found.chain for found in listed}:
            with self.job.repository.open_chain(name, passphrase) as chain:
                check_chain(self.job.files, chain)
                assert verify_chain(chain, lambda _: None).damages == ()
        assert not self.job.files.open_handles


def live(seed: int, sessions: int) -> None:
    weeks = Weeks(seed)
    try:
        for _ in range(sessions):
            weeks.session()
            weeks.check()
            if weeks.rng.random() < 0.4:
                weeks.retain()
                weeks.check()
            if weeks.rng.random() < 0.1:
                weeks.compact()
                weeks.check()
    except Exception as error:
        error.add_note(f"seed {seed}: {', '.join(weeks.done)}")
        raise


def test_points_of_a_shared_chain_read_their_bytes_whatever_happens_to_its_machines(seed: int) -> None:
    live(seed, 8)


@pytest.mark.soak
def test_points_of_a_shared_chain_read_their_bytes_for_many_seeds(seed: int) -> None:
    for number in range(40):
        live(seed + number, 15)
    tell("40 jobs of 15 sessions")
