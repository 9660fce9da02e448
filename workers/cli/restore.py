"""``holdfast restore``: bring a machine or single disks back."""

from typing import Annotated

import typer

from holdfast.errors import RequestInvalid
from holdfast.model.ids import DiskKey
from holdfast.model.machine import PowerState
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_session,
)
from workers.cli.starts import restore_start
from workflows.messages import RestoreRequest

IF_STOPPED = "the disks written so far are removed; no machine has been changed"
_TARGET = "Where to"

PointArgument = Annotated[str, typer.Argument(metavar="POINT", help="First digits of the point's id, or latest.")]
MachineOption = Annotated[
    str | None, typer.Option("--machine", "-m", metavar="NAME", help="Machine the point is of; id or name.")
]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Make a new machine of this name.", rich_help_panel=_TARGET)
]
OriginalOption = Annotated[
    bool,
    typer.Option("--original", help="Restore over the original machine, which must be off.", rich_help_panel=_TARGET),
]
DiskOption = Annotated[list[str] | None, typer.Option("--disk", metavar="KEY", help="Only this disk; may be repeated.")]
OnOption = Annotated[bool, typer.Option("--on", help="Power the machine on afterwards.", rich_help_panel=_TARGET)]
NoCompareOption = Annotated[
    bool, typer.Option("--no-compare", help="Do not read the restored disks back to compare them.")
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Provider to restore to.", rich_help_panel=_TARGET)
]
ProxyOption = Annotated[
    str | None, typer.Option("--proxy", metavar="NAME", help="Proxy that writes.", rich_help_panel=_TARGET)
]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", "-r", metavar="NAME", help="Repository of the point.")
]
CredentialOption = Annotated[
    str | None,
    typer.Option("--credential", metavar="NAME", help="Passphrase of the point; default: that of the jobs."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "restore",
        panel=PROTECT,
        examples=(
            ("restore latest --machine web --as web-copy", "the newest state of web, as a new machine"),
            ("restore 7f3a9c --original", "a certain point, over the machine it was taken of"),
            ("restore latest --machine db --original --disk data", "only one disk of db"),
        ),
    )(restore)


def restore(
    run: Invocation,
    point: PointArgument = "latest",
    *,
    machine: MachineOption = None,
    new_name: AsOption = None,
    original: OriginalOption = False,
    disk: DiskOption = None,
    on: OnOption = False,
    no_compare: NoCompareOption = False,
    provider: ProviderOption = None,
    proxy: ProxyOption = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Restore a machine, or single disks of it, from a restore point.

    Disks are written beside the machine and switched in at the very end, all or none.
    """
    if (new_name is not None) == original:
        hint = "Give `--as NAME` for a new machine, or `--original` to replace the disks of the one the point is of."
        raise RequestInvalid("it is not clear where to restore to", hint=hint)
    source = run.repository_settings(repository).name
    session_id = new_session_id(run)
    request = RestoreRequest(
        session_id=session_id,
        repository=source,
        provider=run.provider_settings(provider).name,
        proxy=run.proxy_name(proxy),
        point=point,
        machine=machine,
        disks=tuple(DiskKey(key) for key in disk or ()),
        new_name=new_name,
        power=PowerState.ON if on else PowerState.OFF,
        compare=not no_compare,
        credential=credential_for(run, source, credential),
    )
    new = NewSession(session_id=session_id, start=restore_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)
