"""``holdfast schedule``: the jobs' times, kept by Temporal."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
import typer
from rich.markup import escape
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

from holdfast.model.ids import SessionId
from workers.cli import wording
from workers.cli.backup import request_of
from workers.cli.commands import RUN, alone, command, family
from workers.cli.invocation import Invocation
from workers.cli.starting import with_client
from workers.cli.starts import backup_start
from workers.cli.tables import plain_table
from workers.config import JobSettings

CATCH_UP: Final = timedelta(hours=1)
"""A run that was missed because the server was down is made up for within this time."""
_PREFIX: Final = "job/"


class ListedSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of ours as Temporal has it."""

    job: str
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
    """List the schedules Temporal keeps for jobs."""
    found = with_client(run, lambda client: _listed(run, client))
    table = plain_table("JOB", "NEXT", "LAST", ">RUNS", ">SKIPPED", ">MISSED", "STATE")
    for entry in found:
        state = "paused" if entry.is_paused else "active"
        table.add_row(
            f"[bold]{escape(entry.job)}[/]",
            wording.moment(entry.next_runs[0] if entry.next_runs else None),
            wording.moment(entry.last_run),
            str(entry.runs),
            str(entry.skipped),
            str(entry.missed),
            state if entry.is_configured else f"{state}, [yellow]not in the configuration[/]",
        )
    run.show({"schedules": found}, table if found else "no schedules; `holdfast schedule apply` creates them")


def apply(
    run: Invocation,
    *,
    prune: Annotated[bool, typer.Option("--prune", help="Delete schedules of jobs that have none.")] = False,
) -> None:
    """Bring Temporal's schedules in line with the configuration. Applying twice changes nothing more.

    A run is left out while the one before still runs; one missed by up to an hour is made up for. Whether a schedule
    is paused is left as it is.
    """
    done = with_client(run, lambda client: _apply(run, client, prune=prune))
    lines = [f"{state}: {', '.join(jobs)}" for state, jobs in done.items() if jobs]
    run.show(done, *(lines or ["no job of the configuration has a schedule"]))
    if done["stale"]:
        run.say("stale schedules still run; `--prune` deletes them")


async def _apply(run: Invocation, client: Client, *, prune: bool) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {"created": [], "updated": [], "deleted": [], "stale": []}
    wanted = {str(job.name): job for job in run.settings.jobs if job.schedule is not None}
    for name, job in wanted.items():
        try:
            await client.create_schedule(_PREFIX + name, schedule_of(job))
            done["created"].append(name)
        except ScheduleAlreadyRunningError:
            await _update(client, job)
            done["updated"].append(name)
    for name in await _names(client):
        if name in wanted:
            continue
        if prune:
            await client.get_schedule_handle(_PREFIX + name).delete()
        done["deleted" if prune else "stale"].append(name)
    return done


def schedule_of(job: JobSettings) -> Schedule:
    """Return the schedule of a job that has one."""
    assert job.schedule is not None, "asked for only with a schedule"
    # The run names its session itself; an id given here would be that of every run.
    start = backup_start(request_of(job, SessionId("")))
    return Schedule(
        action=ScheduleActionStartWorkflow(
            start.workflow,
            start.request,
            id=start.workflow_id,
            task_queue=start.task_queue,
            typed_search_attributes=start.search_attributes,
            static_summary=start.summary,
        ),
        spec=ScheduleSpec(cron_expressions=[job.schedule], time_zone_name=job.timezone),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=CATCH_UP),
        state=ScheduleState(note=f"job {job.name} of the configuration"),
    )


async def _update(client: Client, job: JobSettings) -> None:
    def changed(current: ScheduleUpdateInput) -> ScheduleUpdate:
        wanted = schedule_of(job)
        # Somebody paused it for a reason; the configuration does not know about that.
        wanted.state = current.description.schedule.state
        return ScheduleUpdate(schedule=wanted)

    await client.get_schedule_handle(_PREFIX + job.name).update(changed)


async def _names(client: Client) -> list[str]:
    found = [entry.id async for entry in await client.list_schedules()]
    return sorted(name.removeprefix(_PREFIX) for name in found if name.startswith(_PREFIX))


async def _listed(run: Invocation, client: Client) -> list[ListedSchedule]:
    names = await _names(client)
    handles = [client.get_schedule_handle(_PREFIX + name) for name in names]
    described = await asyncio.gather(*(handle.describe() for handle in handles))
    configured = {job.name for job in run.settings.jobs if job.schedule is not None}
    return [_entry(name, found, name in configured) for name, found in zip(names, described, strict=True)]


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
