"""``holdfast restore``: bring a machine or single disks back."""

from collections.abc import Sequence
from typing import Annotated

import typer

from holdfast.errors import RequestInvalid
from holdfast.model.ids import DiskKey
from holdfast.model.machine import ANYWHERE, AS_ANOTHER, Identifier, Identity, Placement, PowerState
from holdfast.planning.delta import Delta
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    hinting_at_credential,
    new_session_id,
    run_session,
)
from workers.cli.starts import resources_of, restore_start
from workflows.messages import RestoreRequest

IF_STOPPED = "the disks written so far are removed; no machine has been changed"
IF_ROLLBACK_STOPPED = "the machine gets back what its disks held"
_TARGET = "Where to"
_DELTAS = {None: Delta.AUTO, True: Delta.ALWAYS, False: Delta.NEVER}

PointArgument = Annotated[
    str, typer.Argument(metavar="POINT", help="First digits of the point's id; default: `latest`, the newest point.")
]
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
IntoOption = Annotated[
    str | None,
    typer.Option(
        "--into", metavar="NAME", help="Add the disks to this machine, which must be off.", rich_help_panel=_TARGET
    ),
]
OverOption = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="KEY",
        help="With --into: replace this disk there, one for each --disk; may be repeated.",
        rich_help_panel=_TARGET,
    ),
]
FolderOption = Annotated[
    str | None, typer.Option("--folder", metavar="PATH", help="Folder of a new machine.", rich_help_panel=_TARGET)
]
PoolOption = Annotated[
    str | None, typer.Option("--pool", metavar="NAME", help="Resource pool of it.", rich_help_panel=_TARGET)
]
DatastoreOption = Annotated[
    str | None, typer.Option("--datastore", metavar="NAME", help="Datastore of it.", rich_help_panel=_TARGET)
]
NetworkOption = Annotated[
    list[str] | None,
    typer.Option(
        "--network",
        metavar="OLD=NEW",
        help="Network for a captured one; may be repeated.",
        rich_help_panel=_TARGET,
    ),
]
MacOption = Annotated[
    Identifier,
    typer.Option(
        "--mac",
        help="MAC addresses of a new machine. Kept ones are refused while another machine has them in the network.",
        rich_help_panel=_TARGET,
    ),
]
UuidOption = Annotated[
    Identifier,
    typer.Option(
        "--uuid",
        help="Firmware uuid of it, which its guest sees. A kept one is refused while another machine has it.",
        rich_help_panel=_TARGET,
    ),
]
DiskOption = Annotated[list[str] | None, typer.Option("--disk", metavar="KEY", help="Only this disk; may be repeated.")]
QuickOption = Annotated[
    bool,
    typer.Option("--quick", help="With --original: write only what differs from the point.", rich_help_panel=_TARGET),
]
DeltaOption = Annotated[
    bool | None,
    typer.Option(
        "--delta/--no-delta",
        help="Over disks that are there: compare them with the point and write only what differs. "
        "Default: where that costs nothing.",
        rich_help_panel=_TARGET,
    ),
]
OnOption = Annotated[bool, typer.Option("--on", help="Power the machine on afterwards.", rich_help_panel=_TARGET)]
NoCompareOption = Annotated[
    bool, typer.Option("--no-compare", help="Do not read the restored disks back to compare them.")
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Provider to restore to.", rich_help_panel=_TARGET)
]
ProxyOption = Annotated[
    str | None, typer.Option("--proxy", metavar="NAME", help="Only this proxy writes.", rich_help_panel=_TARGET)
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
            ("restore 7f3a9c --original --quick", "the same, writing only what differs: a quick rollback"),
            ("restore latest --machine db --original --disk data", "only one disk of db"),
            ("restore latest --machine db --into web --disk data", "a disk of db, beside those of web"),
            ("restore latest --machine db --into web --disk data --over data --delta", "over one, what differs of it"),
            ("restore latest --machine web --as web2 --datastore nfs02 --network prod=lab", "to another place"),
            (
                "restore latest --machine web --as web --mac keep --uuid keep",
                "web, which is lost, as its guest knows it",
            ),
        ),
    )(restore)


def restore(
    run: Invocation,
    point: PointArgument = "latest",
    *,
    machine: MachineOption = None,
    new_name: AsOption = None,
    original: OriginalOption = False,
    quick: QuickOption = False,
    delta: DeltaOption = None,
    into: IntoOption = None,
    over: OverOption = None,
    disk: DiskOption = None,
    folder: FolderOption = None,
    pool: PoolOption = None,
    datastore: DatastoreOption = None,
    network: NetworkOption = None,
    mac: MacOption = Identifier.NEW,
    uuid: UuidOption = Identifier.NEW,
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

    Disks are written beside the machine and switched in at the very end, all or none. A quick rollback and a delta
    restore may write to the disks of the machine itself, and keep what they held until the end.
    """
    _check_where(is_new=new_name is not None, original=original, into=into)
    _check_quick(quick=quick, original=original, delta=delta)
    _check_over(into=into, over=over, disks=disk)
    placement = _placement(new_name, (folder, pool, datastore), network, Identity(mac_addresses=mac, uuid=uuid))
    kept_in, proxies = run.repository_settings(repository), run.proxies(proxy)
    request = RestoreRequest(
        session_id=new_session_id(run),
        repository=kept_in.name,
        provider=run.provider_settings(provider).name,
        proxy=proxies[0].name,
        resources=resources_of(kept_in, proxies),
        point=point,
        machine=machine,
        disks=tuple(DiskKey(key) for key in disk or ()),
        new_name=new_name,
        into=into,
        over=tuple(DiskKey(key) for key in over or ()),
        delta=_DELTAS[delta],
        placement=placement,
        is_quick=quick,
        power=PowerState.ON if on else PowerState.OFF,
        compare=not no_compare,
        credential=credential_for(run, kept_in.name, credential),
    )
    stopped = IF_ROLLBACK_STOPPED if quick or delta else IF_STOPPED
    new = NewSession(session_id=request.session_id, start=restore_start(request), if_stopped=stopped)
    with hinting_at_credential(run, kept_in.name, credential):
        run_session(run, new, detach=detach, patience_s=patience)


def _check_where(*, is_new: bool, original: bool, into: str | None) -> None:
    if [is_new, original, into is not None].count(True) != 1:
        hint = "Give `--as NAME` for a new machine, `--original` to replace the disks of the one the point is of, or "
        raise RequestInvalid("it is not clear where to restore to", hint=f"{hint}`--into NAME` to add them to another.")


def _check_over(*, into: str | None, over: list[str] | None, disks: list[str] | None) -> None:
    if over and (into is None or len(over) != len(disks or ())):
        hint = "Give it with `--into NAME`, once for each `--disk`, in the same order."
        raise RequestInvalid("it is not clear which disk goes over which", hint=hint)


def _check_quick(*, quick: bool, original: bool, delta: bool | None) -> None:
    if quick and delta is not None:
        hint = "Leave one out: a rollback compares where change tracking cannot be believed."
        raise RequestInvalid("a quick rollback chooses by itself what it compares", hint=hint)
    if quick and not original:
        hint = "Give it with `--original`: a new machine and other machines hold nothing of the point."
        raise RequestInvalid("only the original machine can be rolled back", hint=hint)


def _placement(
    new_name: str | None, place: Sequence[str | None], network: list[str] | None, identity: Identity
) -> Placement:
    folder, pool, datastore = (name or "" for name in place)
    found = Placement(folder=folder, pool=pool, datastore=datastore, networks=_networks(network), identity=identity)
    _check_placement(found, new_name)
    return found


def _check_placement(placement: Placement, new_name: str | None) -> None:
    if new_name is not None:
        return
    if placement.identity != AS_ANOTHER:
        hint = "Give `--mac` and `--uuid` with `--as NAME` only."
        raise RequestInvalid("a machine that exists keeps the identity it has", hint=hint)
    if placement != ANYWHERE:
        raise RequestInvalid("a machine that exists stays where it is", hint="Give a place with `--as NAME` only.")


def _networks(given: list[str] | None) -> dict[str, str]:
    """Return the networks by the captured ones. Raises `RequestInvalid`."""
    networks: dict[str, str] = {}
    for text in given or ():
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise RequestInvalid(f"{text!r} does not map a network", hint="Write it as `--network OLD=NEW`.")
        networks[old] = new
    return networks
