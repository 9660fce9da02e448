"""``holdfast retention``: what stays of the points of a job, shown before it is done."""

import sys
from typing import Annotated

import typer

from holdfast.errors import MachineNotFound, OperationCancelled, RequestInvalid
from holdfast.model.ids import SessionId
from workers.cli import archive, removed, repository_clock
from workers.cli.commands import PROTECT, command, family
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.retention_plans import JobPlan, chain_jobs, document_of, parts_of, plan_job
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    new_session_id,
    run_session,
)
from workers.cli.starts import retention_start
from workers.method_settings import calendar_warning

IF_STOPPED = "what is under way ends at its next commit; every point that stays can be read, and the next run goes on"
_CHAIN_PARTS = 3

MachineOption = Annotated[
    str | None, typer.Option("--machine", "-m", metavar="NAME", help="Only this machine: id or name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "retention", panel=PROTECT, help_line="What stays of the points of a job.")
    command(
        members,
        "plan",
        examples=(
            ("retention plan nightly", "every point of the job's machines: kept, merged or deleted, and why"),
            ("retention plan nightly --machine web", "those of one machine"),
            ("retention plan machines/web-1a2b3c4d/000001-5e6f7a8b", "those of one chain"),
        ),
    )(plan)
    command(
        members,
        "run",
        examples=(
            ("retention run nightly", "show the plan, and carry out exactly that"),
            ("retention run nightly --yes", "and agree that more goes than the rules until now let go"),
        ),
    )(carry_out)
    archive.register_keeping(members)
    removed.register(members)
    repository_clock.register(members)


def plan(
    run: Invocation,
    what: Annotated[str, typer.Argument(metavar="JOB|CHAIN", help="Job of the configuration, or folder of a chain.")],
    *,
    machine: MachineOption = None,
) -> None:
    """Show what would be kept, merged and deleted, and why, with bytes. Nothing is changed.

    The files of the repository are read directly, and the catalog says which machines are the job's.
    """
    chain = what if len(what.split("/")) == _CHAIN_PARTS else None
    found = _plan_of_chain(run, chain) if chain is not None else _plan_of_job(run, what, machine)
    if found.held:
        run.say(f"{found.held} points wait for consent; `holdfast retention run {found.request.job}` asks for it")
    if not found.unplanned:
        run.show(document_of(found), *parts_of(found, chain))
        return
    if not run.flags.json:
        run.show(None, *parts_of(found, chain))
    _warn(run, found)
    first = found.unplanned[0].error
    raise CommandFailed(first, document_of(found) | error_document(first))


def carry_out(
    run: Invocation,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Job of the configuration.")],
    *,
    machine: MachineOption = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Agree that points go which the rules until now keep.")
    ] = False,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Apply the retention of a job now: the plan is shown, and what is done is that plan or nothing.

    Rules that were made stricter let nothing go at once before somebody agreed, here or with `--yes`.
    """
    session_id = new_session_id(run)
    found = _plan_of_job(run, job, machine, session_id)
    if not found.machines:
        raise found.unplanned[0].error  # a request without machines would mean all of them
    has_consent = bool(found.held) and _agrees(run, found, yes=yes)
    if has_consent:
        found = plan_job(run, run.settings.job(job), session_id, machine, has_consent=True)
    if run.is_talkative:
        run.show(None, *parts_of(found))
    _warn(run, found)
    request = found.as_shown(has_consent=has_consent)
    new = NewSession(session_id=session_id, start=retention_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def _plan_of_job(
    run: Invocation,
    job: str,
    machine: str | None,
    session_id: SessionId = SessionId(""),
) -> JobPlan:
    warning = calendar_warning(run.settings.job(job))
    if warning:
        run.warn(warning)
    repository_clock.warn_of_clock(run, run.settings.repository(run.settings.job(job).repository))
    found = plan_job(run, run.settings.job(job), session_id, machine)
    if not found.machines and not found.unplanned:
        raise MachineNotFound(f"job {job} has no points yet in repository {found.request.repository}")
    return found


def _plan_of_chain(run: Invocation, chain: str) -> JobPlan:
    """Return the plan of the job whose machine has the chain."""
    folder = chain.split("/")[1]
    for job in chain_jobs(run.settings.jobs):
        try:
            return plan_job(run, job, SessionId(""), folder)
        except MachineNotFound:
            continue
    raise MachineNotFound(f"no job with retention has points in chain {chain}")


def _warn(run: Invocation, found: JobPlan) -> None:
    for one in found.unplanned:
        run.warn(f"nothing is planned for {one.machine.machine_name}: {one.error.message}")


def _agrees(run: Invocation, found: JobPlan, *, yes: bool) -> bool:
    """Return True when somebody agrees. Raises `RequestInvalid` when nobody can be asked, and `OperationCancelled`."""
    if yes:
        return True
    agreed = plan_job(run, run.settings.job(found.request.job), SessionId(""), has_consent=True)
    words = f"{found.held} points go at once that the rules until now keep"
    if run.flags.json or not sys.stdin.isatty():
        raise RequestInvalid(words, hint="Look at them with `holdfast retention plan`, and add `--yes`.")
    run.show(None, *parts_of(agreed))
    if not typer.confirm(f"{words}. Go on?", err=True):
        raise OperationCancelled("nobody agreed")
    return True
