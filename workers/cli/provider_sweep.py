"""``holdfast provider sweep``: remove what dead sessions left at a provider."""

from collections.abc import Iterable
from typing import Annotated

import typer

from holdfast.errors import RequestInvalid
from holdfast.model.machine import Choice
from holdfast.planning.sweep import AGE_MIN_S
from workers.cli.commands import command
from workers.cli.invocation import Invocation
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    new_session_id,
    run_session,
)
from workers.cli.starts import sweep_start
from workflows.messages import SweepRequest

KEEP = "Let a machine keep what it holds now, although its rollback did not end; a name or a target; repeatable."
GO_BACK = "Give a machine back what it held before its rollback; what it wrote since is lost; repeatable."
IF_STOPPED = "what is being removed is removed; the rest stays for the next sweep"


def register(members: typer.Typer) -> None:
    """Add the command."""
    command(
        members,
        "sweep",
        examples=(
            ("provider sweep vcenter --dry-run", "say what dead sessions left, and what would be done"),
            ("provider sweep vcenter", "remove it"),
            ("provider sweep vcenter --keep web01", "end a rollback of a machine that was switched on since"),
        ),
    )(sweep)


def sweep(
    run: Invocation,
    name: Annotated[str, typer.Argument(help="Provider of the configuration.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed, and why.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Remove also what is younger than an hour.")] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown", help="Remove also what no session known here made; no other installation may use the provider."
        ),
    ] = False,
    keep: Annotated[list[str] | None, typer.Option("--keep", metavar="MACHINE", help=KEEP)] = None,
    go_back: Annotated[list[str] | None, typer.Option("--go-back", metavar="MACHINE", help=GO_BACK)] = None,
    proxy: Annotated[str | None, typer.Option("--proxy", metavar="NAME", help="Which proxy does it.")] = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Remove what dead sessions left at a provider: snapshots, and machines of restores that were never finished.

    What a running session needs stays, and so does what this installation does not know. Everything is listed with the
    reason. A session that was cancelled leaves nothing; one that was terminated does.

    A machine that was switched on before its rollback had ended holds what nothing else holds. It is left as it is
    until you say what it shall hold.
    """
    request = SweepRequest(
        provider=run.settings.provider(name).name,
        proxy=run.proxy_name(proxy),
        is_dry_run=dry_run,
        age_min_s=0 if now else AGE_MIN_S,
        with_unknown=unknown,
        choices=_choices(keep or (), go_back or ()),
        session_id=new_session_id(run),
    )
    new = NewSession(session_id=request.session_id, start=sweep_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def _choices(keep: Iterable[str], go_back: Iterable[str]) -> dict[str, Choice]:
    """Return what was chosen for each machine. Raises `RequestInvalid` when that is both."""
    kept, back = dict.fromkeys(keep, Choice.KEEP), dict.fromkeys(go_back, Choice.GO_BACK)
    for name in kept.keys() & back.keys():
        raise RequestInvalid(f"machine {name!r} cannot keep what it holds and go back")
    return kept | back
