"""``holdfast sessions``: what ran and how it ended, from the catalog."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.catalog.database import Catalog
from holdfast.catalog.events import SessionEvent
from holdfast.catalog.session_table import SessionFilter
from holdfast.errors import RequestInvalid, SessionNotFound
from holdfast.model.ids import JobName, SessionId
from holdfast.model.session import Outcome, Session, SessionKind, Task
from holdfast.planning.bottleneck import bottleneck, bottleneck_words
from workers.cli import wording
from workers.cli.chain_choice import CredentialOption
from workers.cli.commands import LOOK, alone, command, family
from workers.cli.invocation import Invocation
from workers.cli.session_end import task_parts
from workers.cli.session_page import chains_of, session_page
from workers.cli.tables import coloured, facts_table, plain_table

_SEARCHED = 1000
"""How many of the newest sessions the beginning of an id is looked for in."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "sessions", panel=LOOK, help_line="What ran and how it ended.")
    alone(
        members,
        examples=(
            ("sessions", "the newest sessions"),
            ("sessions --job nightly --outcome failed", "failed runs of one job"),
            ("sessions show latest", "everything about the newest one"),
        ),
    )(sessions)
    command(
        members,
        "show",
        examples=(
            ("sessions show 98106d", "the session whose id has these digits behind its date"),
            ("sessions show latest --html report.html", "the same as a page, with pictures of the chains"),
        ),
    )(show)


def sessions(
    run: Invocation,
    *,
    kind: Annotated[SessionKind | None, typer.Option("--kind", help="Only this kind.")] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only this job's.")] = None,
    machine: Annotated[str | None, typer.Option("--machine", "-m", metavar="NAME", help="Id or name.")] = None,
    outcome: Annotated[Outcome | None, typer.Option("--outcome", help="Only with this outcome.")] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, help="Only of the last days.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_SEARCHED, help="How many.")] = 20,
) -> None:
    """List the newest sessions.

    They come from the catalog: this works without Temporal.
    """
    wanted = SessionFilter(
        kind=kind,
        job=None if job is None else JobName(job),
        machine=machine,
        outcome=outcome,
        since=None if days is None else run.clock.now() - timedelta(days=days),
        limit=limit,
    )
    with run.catalog() as catalog:
        found = catalog.sessions.list(wanted)
    run.show({"sessions": found}, _table(found, run) if found else "no sessions")


def show(
    run: Invocation,
    session: Annotated[
        str, typer.Argument(metavar="ID", help="First digits of the id, or of its part behind the dash, or latest.")
    ],
    *,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write it as a page for a browser, too, with its chains drawn."),
    ] = None,
    credential: CredentialOption = None,
) -> None:
    """Show a session: its tasks, figures, notes and what went wrong.

    It comes from the catalog. For the pictures of a page the chains are read from the repository: those that hold the
    points of the session, or the newest one of a machine that got none.
    """
    with run.catalog() as catalog:
        found = _find(catalog, session)
        tasks = catalog.sessions.tasks(found.session_id)
        events = catalog.sessions.events(found.session_id)
        views = [] if html is None else chains_of(run, catalog, found, tasks, credential)
    document = {"session": found, "tasks": tasks, "events": events, "bottleneck": bottleneck(found.figures)}
    parts = _page(run, found, tasks, events)
    if html is not None:
        run.files.replace(html.absolute(), session_page(found, parts, views).encode())
        document |= {"html": html, "chains": [view.name for view in views]}
    run.show(document, *parts)


def _find(catalog: Catalog, reference: str) -> Session:
    try:
        return catalog.sessions.get(SessionId(reference))
    except SessionNotFound:
        newest = catalog.sessions.list(SessionFilter(limit=_SEARCHED))
        matching = newest[:1] if reference == "latest" else [s for s in newest if _begins(s.session_id, reference)]
        if not matching:
            raise
        if len(matching) > 1:
            hint = "Give more digits."
            raise RequestInvalid(f"{reference} begins the ids of {len(matching)} sessions", hint=hint) from None
        return matching[0]


def _begins(session_id: SessionId, reference: str) -> bool:
    """Return whether an id begins so, or its part behind the date, which tells sessions of one time apart."""
    return session_id.startswith(reference) or session_id.partition("-")[2].startswith(reference)


def _table(found: Sequence[Session], run: Invocation) -> Table:
    table = plain_table("=SESSION", "KIND", "JOB", "=STARTED", ">TOOK", "OUTCOME", ">READ", ">STORED", "PROBLEM")
    for session in found:
        table.add_row(
            Text(session.session_id, "bold"),
            session.kind.value,
            session.job,
            wording.moment(session.started),
            _took(session, run),
            coloured(session.outcome),
            wording.size(session.figures.read_bytes),
            wording.size(session.figures.stored_bytes),
            session.problem.message if session.problem else "",
        )
    return table


def _took(session: Session, run: Invocation) -> str:
    until = session.ended if session.ended is not None else run.clock.now()
    return wording.duration(max(0.0, (until - session.started).total_seconds()))


def _page(
    run: Invocation, session: Session, tasks: Sequence[Task], events: Sequence[SessionEvent]
) -> list[RenderableType]:
    facts = facts_table()
    facts.add_row("session", Text(session.session_id, "bold"))
    facts.add_row("job", f"{session.job} ({session.kind.value} to {session.repository})")
    facts.add_row("outcome", coloured(session.outcome))
    facts.add_row("started", wording.moment(session.started))
    facts.add_row("ended", f"{wording.moment(session.ended)} ({_took(session, run)})")
    facts.add_row("workflow", session.workflow_id or "-")
    for name, value in (*_figures(session).items(), *_pace(session, run)):
        facts.add_row(name, value)
    if session.problem is not None:
        facts.add_row("problem", f"{session.problem.message} ({session.problem.code})")
        facts.add_row("hint", session.problem.hint)
    parts: list[RenderableType] = [facts]
    if tasks:
        parts += ["", *task_parts(tasks)]
    if events:
        parts += ["", *(f"{wording.moment(e.time)}  {e.severity.value:7}  {e.text}" for e in events)]
    return parts


def _figures(session: Session) -> dict[str, str]:
    named = msgspec.structs.asdict(session.figures)
    sizes = {
        "disks": "size_bytes",
        "processed": "processed_bytes",
        "read": "read_bytes",
        "transferred": "transferred_bytes",
        "stored": "stored_bytes",
        "read again": "resent_bytes",
    }
    return {label: wording.size(named[field]) for label, field in sizes.items() if named[field]}


def _pace(session: Session, run: Invocation) -> Iterator[tuple[str, str]]:
    """Yield how fast the session read, over all its disks together, and what held it up."""
    until = session.ended if session.ended is not None else run.clock.now()
    took_s = (until - session.started).total_seconds()
    if session.figures.read_bytes and took_s > 0:
        yield "rate", wording.rate(session.figures.read_bytes / took_s)
    if words := bottleneck_words(session.figures):
        yield "bottleneck", words
