"""``holdfast verify``: read restore points back and compare every byte with its digest."""

from typing import Annotated

import msgspec
import typer

from activities.health import passphrase_of
from activities.verification import (
    ChainCheck,
    Scope,
    chains_to_verify,
    check_found,
    closed_chain,
    joined,
    may_hold,
)
from holdfast.errors import PassphraseWrong, RequestInvalid
from holdfast.model.points import VerifyReport
from workers.cli import session_end
from workers.cli.chain import rebuild
from workers.cli.chain_choice import RepositoryOption, chosen_chains
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.pace import Pace
from workers.cli.reading import ListedPoint, find_listed, passphrases_for, read_points
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_session,
)
from workers.cli.starts import credentials_of, verify_start
from workers.repository_settings import RepositorySettings
from workflows.messages import VerifyRequest

IF_STOPPED = "reading ends; nothing is changed by a verification"

PointArgument = Annotated[
    str | None, typer.Argument(metavar="POINT", help="First digits of the point's id, or latest.")
]
MachineOption = Annotated[
    str | None, typer.Option("--machine", "-m", metavar="NAME", help="All points of this machine; id or name.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every point of the repository.")]
RebuildOption = Annotated[
    bool, typer.Option("--rebuild-metadata", help="Write the metadata of the chains anew from their files first.")
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Read here and now, without Temporal and workers.")]
CredentialOption = Annotated[
    str | None,
    typer.Option("--credential", metavar="NAME", help="Passphrase of the points; default: those of the jobs."),
]


class _Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified."""

    point: str | None
    machine: str | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "verify",
        panel=PROTECT,
        examples=(
            ("verify --all", "every byte of the repository, as a session on its worker"),
            ("verify latest --machine web", "the newest point of one machine"),
            ("verify --all --offline", "the same without Temporal, for a repository found on a shelf"),
            ("verify --rebuild-metadata --offline", "make chain metadata anew when it is damaged or lost"),
        ),
    )(verify)


def verify(
    run: Invocation,
    point: PointArgument = None,
    *,
    machine: MachineOption = None,
    everything: AllOption = False,
    rebuild_metadata: RebuildOption = False,
    offline: OfflineOption = False,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Verify restore points: read every stored byte back and compare it with its digest.

    Damage is named by machine, point, disk and offset, so that it is known what cannot be restored.
    """
    if everything and (point or machine):
        raise RequestInvalid("--all goes with neither a point nor a machine")
    if not (everything or point or machine or rebuild_metadata):
        hint = "Name a point or a `--machine`, or give `--all`."
        raise RequestInvalid("nothing to verify is named", hint=hint)
    settings = run.repository_settings(repository)
    wanted = _Wanted(point=point, machine=machine)
    if rebuild_metadata:
        _rebuild(run, settings, wanted, credential)
    if offline:
        _verify_here(run, settings, wanted, credential)
        return
    request = VerifyRequest(
        session_id=new_session_id(run),
        repository=settings.name,
        point=point,
        machine=machine,
        credential=credential_for(run, settings.name, credential),
        credentials=credentials_of(run.settings, settings.name) if credential is None else (),
    )
    new = NewSession(session_id=request.session_id, start=verify_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def _verify_here(run: Invocation, settings: RepositorySettings, wanted: _Wanted, credential: str | None) -> None:
    repository = run.repository(settings)
    keys: list[str | None] = [None, *passphrases_for(run, settings, credential)]
    if wanted.point is not None:
        found = _point(run, settings, wanted.point, wanted.machine, credential)
        chains, scope = [found.chain], Scope(machine=wanted.machine, numbers=[found.point.number])
    else:
        chains, scope = chains_to_verify(repository, None), Scope(machine=wanted.machine)
    if wanted.machine is not None:
        chains = [chain for chain in chains if may_hold(repository, chain, wanted.machine, keys)]
    report = VerifyReport(chains=0)
    for done, chain in enumerate(chains):
        pace = Pace(run, f"verifying {chain} ({done + 1} of {len(chains)})")
        try:
            check = ChainCheck(repository, chain, passphrase_of(repository, chain, keys), scope)
            report = joined(report, check.run(pace))
        except PassphraseWrong as error:
            report = joined(report, closed_chain(chain, error))
    check_found(report, wanted.machine)
    session_end.finish_verification(run, report, f"repository {settings.name}")


def _point(
    run: Invocation, settings: RepositorySettings, point: str, machine: str | None, credential: str | None
) -> ListedPoint:
    points, unreadable = read_points(run, settings, credential, machine)
    for broken in unreadable:
        run.warn(f"chain {broken.chain}: {broken.error.message}")
    return find_listed(points, point, unreadable, machine)


def _rebuild(run: Invocation, settings: RepositorySettings, wanted: _Wanted, credential: str | None) -> None:
    """Write the metadata of the chains anew. Raises `ChainBusy` while a session writes to one."""
    if wanted.point is not None:
        chain = _point(run, settings, wanted.point, wanted.machine, credential).chain
        chosen = chosen_chains(run, chain, None, settings.name, credential)
    else:
        chosen = chosen_chains(run, None, wanted.machine, settings.name, credential)
    for one in chosen:
        rebuild(run, [one])
        run.say(f"metadata of chain {one.name} written")
