"""Plans of retention for the machines of a job, made from the files of its repository and from the catalog alone."""

from collections.abc import Sequence

import msgspec
from rich.console import RenderableType
from rich.text import Text

from activities.contracts.retention import FindMachines, JobMachine
from activities.retention_catalog import judged
from holdfast.errors import DataError, HoldfastError, MachineNotFound
from holdfast.model.ids import MachineId, SessionId
from holdfast.planning.retention import PointVerdict, Verdict
from holdfast.planning.retention_steps import RetentionStep, count, joined_digest
from holdfast.storage.retention.looking import MachinePlan, PlanWish, look_at_machine, plan_machine
from workers.cli import wording
from workers.cli.backup import retention_request_of
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import plain_table
from workers.job_settings import JobSettings
from workflows.messages import Retained, RetentionRequest, ShownPlan
from workflows.retention_step import retained_words

_COLOURS = {Verdict.KEPT: "green", Verdict.MERGED: "yellow", Verdict.DELETED: "red"}


class PlannedMachine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine of the job, and what becomes of its points."""

    machine: JobMachine
    plan: MachinePlan
    gone: tuple[MachineId, ...] = ()
    """Of the machines that share the chain: those that are."""


class Unplanned(msgspec.Struct, frozen=True, kw_only=True):
    """A machine of the job that nothing is planned for, and why: as long as points are hidden, none goes."""

    machine: JobMachine
    error: HoldfastError


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the points of a job's machines."""

    request: RetentionRequest
    machines: tuple[PlannedMachine, ...]
    unplanned: tuple[Unplanned, ...] = ()

    @property
    def held(self) -> int:
        """Return how many points wait for consent."""
        return sum(len(one.plan.judgement.held) for one in self.machines)

    @property
    def digest(self) -> str:
        """Return what tells this plan from another one."""
        return joined_digest({one.machine.machine_id: one.plan.digest for one in self.machines})

    def total(self) -> Retained:
        """Return what would be done, of all machines together."""
        return sum((_sums(one.plan) for one in self.machines), Retained())

    def as_shown(self, *, has_consent: bool) -> RetentionRequest:
        """Return the request that carries exactly this plan out."""
        shown = tuple(
            ShownPlan(
                machine_id=one.machine.machine_id,
                machine_name=one.machine.machine_name,
                digest=one.plan.digest,
                is_gone=one.machine.is_gone,
                gone=one.gone,
            )
            for one in self.machines
        )
        return msgspec.structs.replace(self.request, machines=shown, has_consent=has_consent, only_shown=True)


def plan_job(
    run: Invocation, job: JobSettings, session_id: SessionId, machine: str | None = None, *, has_consent: bool = False
) -> JobPlan:
    """Return the plan for a job, or for one machine of it by id, name or chain; nothing is changed.

    Raises `MachineNotFound`, and what keeps the repository or the catalog from being read.
    """
    request = retention_request_of(job, session_id)
    options = request.upkeep.retention
    assert options is not None, "refused without"
    repository = run.repository(run.settings.repository(job.repository))
    passphrase = run.settings.credentials.passphrase(job.credential)
    now = run.clock.now()
    planned: list[PlannedMachine] = []
    unplanned: list[Unplanned] = []
    for known, gone in _owners(run, request):
        folder = repository.machine_folder(known.machine_id, known.machine_name)
        if machine not in {None, known.machine_id, known.machine_name} and folder.name not in str(machine).split("/"):
            continue
        wish = PlanWish(options=options, now=now, is_gone=known.is_gone, has_consent=has_consent, gone=gone)
        try:
            plan = plan_machine(look_at_machine(repository, folder, passphrase), wish)
        except DataError as error:
            unplanned.append(Unplanned(machine=known, error=error))
        else:
            planned.append(PlannedMachine(machine=known, plan=plan, gone=gone))
    if machine is not None and not planned and not unplanned:
        raise MachineNotFound(f"job {job.name} has no points of {machine} in repository {job.repository}")
    return JobPlan(request=request, machines=tuple(planned), unplanned=tuple(unplanned))


def _owners(run: Invocation, request: RetentionRequest) -> list[tuple[JobMachine, tuple[MachineId, ...]]]:
    """Return whose chains are planned for: each machine, or the job that keeps all in one, with those that are gone."""
    machines, owner = _machines(run, request), request.upkeep.owner
    if owner is None or not machines:
        return [(machine, ()) for machine in machines]
    gone = tuple(machine.machine_id for machine in machines if machine.is_gone)
    last_tried = max(machine.last_tried for machine in machines)
    job = JobMachine(
        machine_id=MachineId(owner.owner_id), machine_name=owner.name, last_tried=last_tried, is_gone=False
    )
    return [(job, gone)]


def _machines(run: Invocation, request: RetentionRequest) -> list[JobMachine]:
    options = request.upkeep.retention
    assert options is not None, "refused without"
    find = FindMachines(
        repository=request.repository,
        job=request.job,
        now=run.clock.now(),
        timezone=options.timezone,
        gone_after_days=options.gone_after_days,
    )
    with run.catalog() as catalog:
        return [judged(known, find) for known in catalog.protected.machines(request.repository, request.job)]


def document_of(plan: JobPlan) -> dict[str, object]:
    """Return a plan as ``--json`` shows it."""
    return {
        "job": plan.request.job,
        "repository": plan.request.repository,
        "digest": plan.digest,
        "total": plan.total(),
        "machines": [
            {
                "machine": one.machine,
                "digest": one.plan.digest,
                "points": one.plan.judgement.plan.points,
                "steps": one.plan.steps,
                "waiting_for_consent": one.plan.judgement.held,
            }
            for one in plan.machines
        ],
        "unplanned": [{"machine": one.machine} | error_document(one.error) for one in plan.unplanned],
    }


def parts_of(plan: JobPlan, chain: str | None = None) -> list[RenderableType]:
    """Return a plan for people: every point with its fate and the reason, then the steps with their bytes."""
    table = plain_table("MACHINE", "=CHAIN", ">POINT", "=ID", "=DAY", "BECOMES", "WHY")
    lines = []
    for one in plan.machines:
        for point in one.plan.judgement.plan.points:
            if chain in {None, point.chain}:
                table.add_row(one.machine.machine_name, *_cells(point))
        lines += [_line(one, step) for step in one.plan.steps if chain in {None, step.chain}]
    if not table.row_count:
        return ["no points"]
    ending = f"plan {plan.digest}: {retained_words(plan.total())}"
    return [table, *lines, ending]


def _cells(point: PointVerdict) -> tuple[str | Text, ...]:
    return (
        point.chain.rpartition("/")[2],
        str(point.number),
        point.point_id[:12],
        point.day.isoformat(),
        Text(point.verdict.value, _COLOURS[point.verdict]),
        point.reason,
    )


def _line(one: PlannedMachine, step: RetentionStep) -> str:
    name, chain = one.machine.machine_name, step.chain.rpartition("/")[2]
    files = f"{step.files[0]}" if len(step.files) == 1 else f"{step.files[0]} to {step.files[-1]}"
    size = wording.size(step.size_bytes)
    if step.into:
        return f"{name} {chain}: {files} merged into {step.into}, at most {size} moved"
    return f"{name} {chain}: {files} removed, {size} freed when the grace period is over"


def _sums(plan: MachinePlan) -> Retained:
    points = plan.judgement.plan.points
    return Retained(
        kept=count(points, Verdict.KEPT),
        merged=count(points, Verdict.MERGED),
        deleted=count(points, Verdict.DELETED),
        held=len(plan.judgement.held),
        moved_bytes=sum(step.size_bytes for step in plan.steps if step.into),
        freed_bytes=sum(step.size_bytes for step in plan.steps if not step.into),
    )


def chain_jobs(jobs: Sequence[JobSettings]) -> list[JobSettings]:
    """Return the jobs that may be asked for a chain: those with retention."""
    return [job for job in jobs if job.retention is not None]
