"""``holdfast health``: how stored data is, reading it again, and repairing what is damaged."""

from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType
from rich.text import Text
from temporalio.client import Client

from holdfast.errors import MachineNotFound
from holdfast.formats.chain_health import ChainHealth
from holdfast.model.health import BrokenChain
from holdfast.model.points import PointHealth
from holdfast.planning.scrub import ScrubRules
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.health_file import points_of, read_health
from holdfast.storage.health.scrub_run import RepositoryScrub
from workers.cli import wording
from workers.cli.chain_choice import RepositoryOption
from workers.cli.commands import PROTECT, alone, command, family
from workers.cli.invocation import Invocation
from workers.cli.reading import passphrases_for
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    new_session_id,
    run_session,
    with_client,
)
from workers.cli.starts import credentials_of, health_start
from workers.cli.tables import plain_table
from workers.repository_settings import RepositorySettings
from workflows.broken_chain import DECIDE
from workflows.messages import HealthRequest, HealthTask

IF_STOPPED = "reading ends; what was read is written down, and the next run goes on behind it"

RepairOption = Annotated[
    bool, typer.Option("--repair/--no-repair", help="Repair what is found damaged, as far as the bytes are elsewhere.")
]


class Decision(StrEnum):
    """What somebody decides about a chain that cannot be continued."""

    FULL = "full"
    FAIL = "fail"


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a repository."""

    damaged_units: int
    problems: list[str]
    points: list[PointHealth]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "health", panel=PROTECT, help_line="Whether stored data can be read, and repairs.")
    alone(members, examples=(("health", "what is known to be damaged, and how old the oldest unread bytes are"),))(show)
    command(members, "show")(show)
    command(
        members,
        "check",
        examples=(("health check", "read the newest point of every machine back, and repair what is damaged"),),
    )(check)
    command(
        members,
        "scrub",
        examples=(
            ("health scrub", "read today's share of all stored bytes again, the oldest first"),
            ("health scrub --days 1 --deep", "read everything, and decode it as a restore does"),
        ),
    )(scrub)
    command(members, "repair", examples=(("health repair", "repair what is known to be damaged"),))(repair)
    command(
        members,
        "decide",
        examples=(("health decide web full", "let the machine that waits begin a new chain"),),
    )(decide)


def show(run: Invocation, *, repository: RepositoryOption = None) -> None:
    """Show what is known to be damaged, and for how long the oldest bytes have not been read.

    It reads what checks and scrubs wrote beside the chains, and no stored data.
    """
    settings = run.repository_settings(repository)
    found = run.repository(settings)
    known = _known(found)
    keys: list[str | None] = [None, *passphrases_for(run, settings, None)]
    plan = RepositoryScrub(found, keys, run.clock).plan(ScrubRules(days=settings.scrub_days), 0)
    document = {
        "repository": settings.name,
        "stored_bytes": plan.stored_bytes,
        "oldest": plan.oldest,
        "scrub_days": settings.scrub_days,
        "overdue_bytes": plan.overdue_bytes,
        "closed": plan.closed,
        "damaged_units": known.damaged_units,
        "problems": known.problems,
        "points": known.points,
    }
    oldest = "nothing is stored" if plan.oldest is None else f"oldest read or written {wording.moment(plan.oldest)}"
    stored = f": {wording.size(plan.stored_bytes)} stored, {oldest}"
    parts: list[RenderableType] = [Text.assemble("repository ", (settings.name, "bold"), stored)]
    if plan.overdue_bytes:
        overdue = f": {wording.size(plan.overdue_bytes)} not read for more than {settings.scrub_days} days"
        parts.append(Text.assemble(("overdue", "yellow"), overdue))
    for one in plan.closed:
        words = f": {one.chain}, {wording.size(one.due_bytes)} due: {one.reason}"
        parts.append(Text.assemble(("not read", "yellow"), words))
    run.show(document, *parts, *_damage_parts(known))


def check(
    run: Invocation,
    *,
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", metavar="NAME", help="Only this machine; id or name.")
    ] = None,
    repairs: RepairOption = True,
    repository: RepositoryOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Read the newest point of each machine back, every byte it needs, and compare it with its digests."""
    request = _request(run, run.repository_settings(repository), HealthTask.CHECK)
    request = msgspec.structs.replace(request, machine=machine, repairs=repairs)
    _start(run, request, detach=detach, patience_s=patience)


def scrub(
    run: Invocation,
    *,
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, metavar="DAYS", help="Within how many every byte is read; 1 reads all now."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Decode everything and compare it, as a restore does.")] = False,
    repairs: RepairOption = True,
    repository: RepositoryOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Read stored bytes again, those that were not read for longest first: a day's share of all there are."""
    settings = run.repository_settings(repository)
    request = msgspec.structs.replace(
        _request(run, settings, HealthTask.SCRUB),
        days=days if days is not None else settings.scrub_days,
        is_deep=deep,
        repairs=repairs,
    )
    _start(run, request, detach=detach, patience_s=patience)


def repair(
    run: Invocation,
    *,
    repository: RepositoryOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Repair what is known to be damaged, and name what cannot be repaired by point, disk and offset.

    Lost bytes are taken from the same chain, other chains of the machine, and copies; nothing stored is written over.
    """
    _start(
        run,
        _request(run, run.repository_settings(repository), HealthTask.REPAIR),
        detach=detach,
        patience_s=patience,
    )


def decide(
    run: Invocation,
    machine: Annotated[str, typer.Argument(help="Name of the machine that waits.")],
    decision: Annotated[Decision, typer.Argument(help="Begin a new chain with a full, or let the machine fail.")],
) -> None:
    """Answer a machine whose job asks what becomes of its damaged chain."""
    told = with_client(run, lambda client: _decide(client, machine, BrokenChain(decision.value)))
    if not told:
        hint = '`holdfast sessions` lists what runs; only jobs with `on_broken_chain = "ask"` wait.'
        raise MachineNotFound(f"no backup of machine {machine} is running", hint=hint)
    run.show({"machine": machine, "decision": decision, "workflows": told}, f"told {', '.join(told)}: {decision}")


async def _decide(client: Client, machine: str, decision: BrokenChain) -> list[str]:
    name = machine.replace("'", "''")
    query = f"WorkflowType = 'MachineBackup' AND ExecutionStatus = 'Running' AND HoldfastMachine = '{name}'"
    told = []
    async for found in client.list_workflows(query):
        await client.get_workflow_handle(found.id, run_id=found.run_id).signal(DECIDE, decision)
        told.append(found.id)
    return told


def _request(run: Invocation, settings: RepositorySettings, task: HealthTask) -> HealthRequest:
    return HealthRequest(
        repository=settings.name,
        task=task,
        days=settings.scrub_days,
        credentials=credentials_of(run.settings, settings.name),
        copies=settings.copies,
        session_id=new_session_id(run),
    )


def _start(run: Invocation, request: HealthRequest, *, detach: bool, patience_s: float) -> None:
    new = NewSession(session_id=request.session_id, start=health_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience_s)


def _known(repository: Repository) -> _Known:
    known = _Known(damaged_units=0, problems=[], points=[])
    for folder in repository.chain_folders():
        if chain_file_names(repository.files, folder):
            known = _with(known, repository.relative(folder), read_health(repository.files, folder))
    return known


def _with(known: _Known, chain: str, health: ChainHealth) -> _Known:
    problems = [f"{chain}: {file.problem}" for file in health.files if file.problem]
    return _Known(
        damaged_units=known.damaged_units + sum(len(file.units) for file in health.files),
        problems=known.problems + problems,
        points=known.points + list(points_of(chain, health)),
    )


def _damage_parts(known: _Known) -> list[RenderableType]:
    if not (known.damaged_units or known.problems or known.points):
        return [Text("nothing is known to be damaged", "green")]
    damages = [wording.count(known.damaged_units, "unit")] if known.damaged_units else []
    damages += known.problems
    parts: list[RenderableType] = [Text.assemble(("damaged", "red"), f": {damage}") for damage in damages]
    table = plain_table("MACHINE", ">POINT", "=ID", "STATE", "=CHAIN", "WHY")
    for point in known.points:
        table.add_row(
            point.machine,
            str(point.number),
            point.point_id[:12],
            point.state.value,
            point.chain.rpartition("/")[2],
            point.reason,
        )
    return [*parts, table] if known.points else parts
