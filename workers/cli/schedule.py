"""``holdfast schedule``: the times of jobs, of their retention and of sweeps, kept by Temporal."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from holdfast.errors import RequestInvalid
from holdfast.model.ids import SessionId
from workers.cli import wording
from workers.cli.backup import request_of, retention_request_of
from workers.cli.commands import RUN, alone, command, family
from workers.cli.invocation import Invocation
from workers.cli.schedule_calendars import calendars_for_fulls
from workers.cli.starting import with_client
from workers.cli.starts import (
    Start,
    archives_request_of,
    backup_start,
    credentials_of,
    health_start,
    retention_start,
    sweep_start,
)
from workers.cli.tables import plain_table
from workers.config import Settings
from workers.cron import longest_gap_days
from workers.job_settings import JobSettings
from workers.method_settings import calendar_warning
from workers.provider_settings import VSphereProviderSettings
from workers.repository_settings import RepositorySettings
from workflows.messages import HealthRequest, HealthTask, SweepRequest

CATCH_UP: Final = timedelta(hours=1)
"""A run that was missed because the server was down is made up for within this time."""
_JOB: Final = "job/"
_SWEEP: Final = "sweep/"
_RETENTION: Final = "retention/"
_HEALTH: Final = "health/"
_ARCHIVES: Final = "archives/"
_KINDS: Final = (_JOB, _SWEEP, _RETENTION, _HEALTH, _ARCHIVES)
"""What the id of a schedule of ours begins with. Of a job people see the name alone."""


class ListedSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of ours as Temporal has it."""

    job: str
    """Name of the job, ``retention/`` and its name, ``sweep/`` and a provider, ``health/``, repository and task, or
    ``archives/`` and a repository."""
    is_configured: bool
    is_paused: bool
    note: str
    next_runs: tuple[datetime, ...]
    last_run: datetime | None
    runs: int
    skipped: int
    """Runs left out because the one before still ran."""
    missed: int
    """Runs left out because the server was down for too long."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "schedule", panel=RUN, help_line="When jobs run.")
    alone(members, examples=(("schedule", "what runs when"), ("schedule apply", "take over the configuration")))(
        listing
    )
    command(members, "list")(listing)
    command(
        members,
        "apply",
        examples=(
            ("schedule apply", "create and update the schedules of the configuration"),
            ("schedule apply --prune", "and delete those of jobs that are gone"),
        ),
    )(apply)


def listing(run: Invocation) -> None:
    """List the schedules Temporal keeps for jobs, for their retention, and for sweeps of providers."""
    found = with_client(run, lambda client: _listed(run, client))
    table = plain_table("JOB", "=NEXT", "=LAST", ">RUNS", ">SKIPPED", ">MISSED", "STATE")
    for entry in found:
        state = "paused" if entry.is_paused else "active"
        table.add_row(
            Text(entry.job, "bold"),
            wording.moment(entry.next_runs[0] if entry.next_runs else None),
            wording.moment(entry.last_run),
            str(entry.runs),
            str(entry.skipped),
            str(entry.missed),
            state if entry.is_configured else Text.assemble(f"{state}, ", ("not in the configuration", "yellow")),
        )
    run.show({"schedules": found}, table if found else "no schedules; `holdfast schedule apply` creates them")


def apply(
    run: Invocation,
    *,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete schedules that the configuration does not have.")
    ] = False,
) -> None:
    """Bring Temporal's schedules in line with the configuration. Applying twice changes nothing more.

    A run is left out while the one before still runs; one missed by up to an hour is made up for. A job runs on the
    days of its fulls, too. Whether a schedule is paused is left as it is.
    """
    for warning in filter(None, map(calendar_warning, run.settings.jobs)):
        run.warn(warning)
    done = with_client(run, lambda client: _apply(run, client, prune=prune))
    lines = [f"{state}: {', '.join(jobs)}" for state, jobs in done.items() if jobs]
    run.show(done, *(lines or ["nothing in the configuration has a schedule"]))
    if done["stale"]:
        run.say("stale schedules still run; `--prune` deletes them")


async def _apply(run: Invocation, client: Client, *, prune: bool) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {"created": [], "updated": [], "deleted": [], "stale": []}
    wanted = wanted_schedules(run.settings)
    for identity, schedule in wanted.items():
        try:
            await client.create_schedule(identity, schedule)
            done["created"].append(_shown(identity))
        except ScheduleAlreadyRunningError:
            await _update(client, identity, schedule)
            done["updated"].append(_shown(identity))
    for identity in await _ids(client):
        if identity in wanted:
            continue
        if prune:
            await client.get_schedule_handle(identity).delete()
        done["deleted" if prune else "stale"].append(_shown(identity))
    return done


def wanted_schedules(settings: Settings) -> dict[str, Schedule]:
    """Return every schedule of the configuration by its id: of jobs, their retention, providers and repositories."""
    jobs = {_JOB + job.name: schedule_of(job, settings) for job in settings.jobs if job.schedule is not None}
    jobs |= {_RETENTION + job.name: retention_schedule_of(job) for job in settings.jobs if _retention_time(job)}
    swept = [entry for entry in settings.providers if isinstance(entry, VSphereProviderSettings) and entry.sweep]
    health = {
        f"{_HEALTH}{repository.name}/{task.value}": health_schedule_of(repository, task, settings)
        for repository in settings.repositories
        for task, cron in ((HealthTask.SCRUB, repository.scrub), (HealthTask.CHECK, repository.health_check))
        if cron
    }
    kept = [repository for repository in settings.repositories if repository.archives]
    health |= {_ARCHIVES + repository.name: archives_schedule_of(repository) for repository in kept}
    return jobs | health | {_SWEEP + provider.name: sweep_schedule_of(provider, settings) for provider in swept}


def schedule_of(job: JobSettings, settings: Settings) -> Schedule:
    """Return the schedule of a job that has one: its own times, and those of fulls on days that have none."""
    assert job.schedule is not None, "asked for only with a schedule"
    # The run names its session itself; an id given here would be that of every run.
    start = backup_start(request_of(settings, job, SessionId("")))
    schedule = _schedule(start, job.schedule, job.timezone, f"job {job.name} of the configuration")
    schedule.spec.calendars = calendars_for_fulls(job)
    return schedule


def retention_schedule_of(job: JobSettings) -> Schedule:
    """Return the schedule of the retention of a job that has one."""
    start = retention_start(retention_request_of(job, SessionId("")))
    return _schedule(start, _retention_time(job), job.timezone, f"retention of job {job.name} of the configuration")


def _retention_time(job: JobSettings) -> str:
    return "" if job.retention is None or job.retention.schedule is None else job.retention.schedule


def archives_schedule_of(repository: RepositorySettings) -> Schedule:
    """Return the schedule by which the archives of a repository are removed that have expired."""
    assert repository.archives is not None, "asked for only with a time"
    start = retention_start(archives_request_of(repository.name, SessionId("")))
    return _schedule(
        start, repository.archives, "UTC", f"archives of repository {repository.name} of the configuration"
    )


def sweep_schedule_of(provider: VSphereProviderSettings, settings: Settings) -> Schedule:
    """Return the schedule of the sweeps of a provider that has one. Raises `RequestInvalid` without any proxy.

    The proxy is that of the first job of the provider, which reaches it for sure, else the first.
    """
    assert provider.sweep is not None, "asked for only with a time"
    jobs = [job for job in settings.jobs if job.provider == provider.name]
    proxies = [settings.proxies_of(job)[0].name for job in jobs]
    proxies += [proxy.name for proxy in settings.proxies]
    if not proxies:
        raise RequestInvalid(f"provider {provider.name} cannot be swept: the configuration has no proxy")
    start = sweep_start(SweepRequest(provider=provider.name, proxy=proxies[0]))
    return _schedule(start, provider.sweep, "UTC", f"sweep of provider {provider.name} of the configuration")


def health_schedule_of(repository: RepositorySettings, task: HealthTask, settings: Settings) -> Schedule:
    """Return the schedule of the scrubs or the health checks of a repository."""
    cron = repository.scrub if task is HealthTask.SCRUB else repository.health_check
    assert cron is not None, "asked for only with a time"
    start = health_start(
        HealthRequest(
            repository=repository.name,
            task=task,
            days=repository.scrub_days,
            every_s=longest_gap_days(cron) * 86400,
            credentials=credentials_of(settings, repository.name),
            copies=repository.copies,
        )
    )
    return _schedule(start, cron, "UTC", f"{task.value} of repository {repository.name} of the configuration")


def _schedule(start: Start, cron: str, timezone: str, note: str) -> Schedule:
    return Schedule(
        action=ScheduleActionStartWorkflow(
            start.workflow,
            start.request,
            id=start.workflow_id,
            task_queue=start.task_queue,
            typed_search_attributes=start.search_attributes,
            static_summary=start.summary,
        ),
        spec=ScheduleSpec(cron_expressions=[cron], time_zone_name=timezone),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=ScheduleState(note=note),
    )


async def _update(client: Client, identity: str, wanted: Schedule) -> None:
    def changed(current: ScheduleUpdateInput) -> ScheduleUpdate:
        # Somebody paused it for a reason; the configuration does not know about that.
        wanted.state = current.description.schedule.state
        return ScheduleUpdate(schedule=wanted)

    await client.get_schedule_handle(identity).update(changed)


async def _ids(client: Client) -> list[str]:
    found = [entry.id async for entry in await client.list_schedules()]
    return sorted(identity for identity in found if identity.startswith(_KINDS))


def _shown(identity: str) -> str:
    return identity.removeprefix(_JOB)


async def _listed(run: Invocation, client: Client) -> list[ListedSchedule]:
    ids = await _ids(client)
    described = await asyncio.gather(*(client.get_schedule_handle(identity).describe() for identity in ids))
    wanted = wanted_schedules(run.settings)
    return [_entry(_shown(one), found, one in wanted) for one, found in zip(ids, described, strict=True)]


def _entry(name: str, found: ScheduleDescription, is_configured: bool) -> ListedSchedule:
    info = found.info
    return ListedSchedule(
        job=name,
        is_configured=is_configured,
        is_paused=found.schedule.state.paused,
        note=found.schedule.state.note or "",
        next_runs=tuple(info.next_action_times[:3]),
        last_run=info.recent_actions[-1].started_at if info.recent_actions else None,
        runs=info.num_actions,
        skipped=info.num_actions_skipped_overlap,
        missed=info.num_actions_missed_catchup_window,
    )
