"""``holdfast verify``: read restore points back and compare every byte with its digest."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from activities.verification import ChainCheck, Scope, chains_to_verify, joined
from holdfast.errors import PassphraseWrong, RequestInvalid
from holdfast.model.points import VerifyReport
from holdfast.storage.chains.repository import Repository
from workers.cli import session_end
from workers.cli.chain import rebuild
from workers.cli.chain_choice import ChosenChain
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.pace import Pace
from workers.cli.reading import find_listed, passphrases_for, read_points
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_session,
)
from workers.cli.starts import verify_start
from workers.config import RepositorySettings
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
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", "-r", metavar="NAME", help="Repository; needed when there are several.")
]
CredentialOption = Annotated[
    str | None,
    typer.Option("--credential", metavar="NAME", help="Passphrase of the points; default: that of the jobs."),
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
    )
    new = NewSession(session_id=request.session_id, start=verify_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def _verify_here(run: Invocation, settings: RepositorySettings, wanted: _Wanted, credential: str | None) -> None:
    repository = run.repository(settings)
    passphrases = passphrases_for(run, settings, credential)
    chains, numbers = _chosen(run, settings, repository, wanted, credential)
    report = VerifyReport(chains=0)
    for done, chain in enumerate(chains):
        pace = Pace(run, f"verifying {chain} ({done + 1} of {len(chains)})")
        report = joined(report, _checked(repository, chain, passphrases, (wanted.machine, numbers), pace))
    session_end.finish_verification(run, report, f"repository {settings.name}")


def _checked(
    repository: Repository,
    chain: str,
    passphrases: Sequence[str],
    scope: tuple[str | None, Sequence[int]],
    pace: Pace,
) -> VerifyReport:
    """Check one chain with the passphrase that opens it. Raises `PassphraseWrong` when none does."""
    machine, numbers = scope
    tried: list[str | None] = [None, *passphrases]
    while True:
        passphrase = tried.pop(0)
        try:
            return ChainCheck(repository, chain, passphrase, Scope(machine=machine, numbers=numbers)).run(pace)
        except PassphraseWrong:
            if not tried:
                raise


def _chosen(
    run: Invocation, settings: RepositorySettings, repository: Repository, wanted: _Wanted, credential: str | None
) -> tuple[list[str], list[int]]:
    """Return the chains to look at, and the numbers of points in them; none for all."""
    if wanted.point is None:
        return chains_to_verify(repository, None), []
    points, unreadable = read_points(run, settings, credential, wanted.machine)
    for broken in unreadable:
        run.warn(f"chain {broken.chain}: {broken.error.message}")
    found = find_listed(points, wanted.point)
    return [found.chain], [found.point.number]


def _rebuild(run: Invocation, settings: RepositorySettings, wanted: _Wanted, credential: str | None) -> None:
    """Write the metadata of the chains anew. Raises `ChainBusy` while a session writes to one."""
    repository = run.repository(settings)
    passphrases = passphrases_for(run, settings, credential)
    chains, _ = _chosen(run, settings, repository, wanted, credential)
    if wanted.machine is not None and wanted.point is None:
        points, _ = read_points(run, settings, credential, wanted.machine)
        chains = sorted({point.chain for point in points})
    for chain in chains:
        folder = repository.chain_folder(chain)
        rebuild(run, [ChosenChain(name=chain, folder=folder, passphrases=tuple(passphrases))])
        run.say(f"metadata of chain {chain} written")
