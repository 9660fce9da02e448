"""Days of a job that keeps its machines in one chain, with retention between them."""

from datetime import timedelta

import msgspec

from holdfast.model.ids import MachineId
from holdfast.model.retention import KeepUnit, Method, RetentionOptions, RetentionPolicy
from holdfast.storage.retention.carrying_out import StepWorker
from holdfast.storage.retention.looking import MachinePlan, PlanWish, look_at_machine, plan_machine, take_note
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.aging import FIRST_DAY, DayClock
from tests.holdfast.storage.jobs import OWNER, Job


def rule(keep: int, method: Method = Method.FORWARD) -> RetentionOptions:
    return RetentionOptions(policy=RetentionPolicy(keep=keep, unit=KeepUnit.POINTS), method=method)


def forever(keep: int) -> RetentionOptions:
    return rule(keep, Method.FOREVER)


class Days:
    """A job over days; ``full`` on a day begins a new chain."""

    def __init__(self, files: CrashFiles) -> None:
        self.job, self.clock, self.day = Job(files), DayClock(), 0
        for machine in self.job.machines:
            machine.clock = self.clock

    def run(self, *machines: ProtectedMachine, full: bool = False) -> None:
        self.clock.moment = FIRST_DAY + timedelta(days=self.day)
        self.day += 1
        self.job.change(self.day % 7)
        for machine in machines:
            machine.sessions = self.day - 1
            machine.store = msgspec.structs.replace(self.job.store, full=full)
            machine.back_up()

    def plan(self, options: RetentionOptions, gone: tuple[MachineId, ...] = ()) -> MachinePlan:
        seen = look_at_machine(self.job.repository, self.job.repository.owner_folder(OWNER), None)
        wish = PlanWish(options=options, now=self.clock.now(), has_consent=True, gone=gone)
        plan = plan_machine(seen, wish)
        take_note(self.job.repository, seen, plan, wish)
        return plan

    def carry_out(self, plan: MachinePlan) -> None:
        for step in plan.steps:
            StepWorker(self.job.repository, None, self.clock.now()).run(step, lambda _files, _bytes: None)
            for machine in self.job.machines:
                machine.kept = [kept for kept in machine.kept if kept.summary.point_id not in step.points]


def numbers(job: Job) -> list[list[int]]:
    """Return the numbers of the points that each machine has."""
    return [[kept.summary.number for kept in machine.kept] for machine in job.machines]
