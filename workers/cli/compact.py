"""``holdfast compact``: write a machine's full anew, or make one of its newest point, on the repository's worker."""

from typing import Annotated

import typer

from holdfast.errors import PointNotFound, RequestInvalid
from holdfast.model.fulls import MethodOptions
from holdfast.model.ids import MachineId, RepositoryName
from holdfast.model.owners import ChainOwner
from holdfast.storage.chains.repository import Repository
from workers.cli.chain_choice import RepositoryOption
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.reading import ListedPoint, read_points
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_upkeep,
)
from workers.cli.starts import upkeep_start
from workers.job_settings import AD_HOC
from workers.method_settings import owner_of
from workflows.messages import ByHand, MachineUpkeepRequest, UpkeepOptions

IF_STOPPED = "the chain stays readable, and the next run goes on where this one stopped"

MachineOption = Annotated[str, typer.Option("--machine", "-m", metavar="NAME", help="Whose newest chain; id or name.")]
FullOption = Annotated[
    bool, typer.Option("--synthetic-full", help="Make the newest point a full in a new chain, of what is there.")
]
CredentialOption = Annotated[
    str | None,
    typer.Option("--credential", metavar="NAME", help="Passphrase of the chain; default: that of the jobs."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "compact",
        panel=PROTECT,
        examples=(
            ("compact --machine web", "write the full of its newest chain without what nobody needs any more"),
            ("compact --machine web --synthetic-full", "make its newest point a full, without reading the machine"),
        ),
    )(compact)


def compact(
    run: Invocation,
    *,
    machine: MachineOption,
    synthetic_full: FullOption = False,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Write the full of a machine's newest chain anew, without what no point needs.

    With `--synthetic-full` its newest point becomes a full in a new chain instead. Points can be read all the time, and
    what is cut off goes on where it stopped. It runs on the workers and survives the end of this command; an interrupt
    asks it to stop. Of a chain that all machines of a job share the full is written anew for all of them.
    """
    settings = run.repository_settings(repository)
    points, _ = read_points(run, settings, credential, machine)
    point = _newest(points, machine)
    owner = _owner(run, run.repository(settings), point, synthetic_full=synthetic_full)
    request = MachineUpkeepRequest(
        session_id=new_session_id(run),
        job=AD_HOC,
        repository=RepositoryName(settings.name),
        machine_id=MachineId(owner.owner_id),
        machine_name=owner.name,
        upkeep=UpkeepOptions(method=MethodOptions()),
        by_hand=ByHand.SYNTHETIC_FULL if synthetic_full else ByHand.COMPACTION,
        credential=credential_for(run, settings.name, credential),
    )
    new = NewSession(session_id=request.session_id, start=upkeep_start(request), if_stopped=IF_STOPPED)
    run_upkeep(run, new, detach=detach, patience_s=patience)


def _newest(points: list[ListedPoint], machine: str) -> ListedPoint:
    complete = [listed for listed in points if listed.point.complete]
    if not complete:
        raise PointNotFound(f"machine {machine} has no finished restore point")
    ids = {listed.point.machine.machine_id for listed in complete}
    if len(ids) > 1:
        raise RequestInvalid(f"{machine} is the name of {len(ids)} machines", hint="Give the id of one.")
    return complete[-1]


def _owner(run: Invocation, repository: Repository, point: ListedPoint, *, synthetic_full: bool) -> ChainOwner:
    """Return whose chain a point is in: its machine's, or that of a job which keeps all its machines in one.

    What makes a full of one machine's point would lose the others, so it is refused there.
    """
    machine = point.point.captured_machine()
    own = repository.machine_folder(machine.machine_id, point.point.machine.name)
    if own.name in point.chain.split("/"):
        return ChainOwner.of_machine(machine.machine_id, point.point.machine.name)
    shared = f"the newest point of {point.point.machine.name} is in {point.chain}, which several machines share"
    if synthetic_full:
        raise RequestInvalid(shared, hint="An active full begins a new chain: `holdfast backup JOB --full`.")
    owners = [owner for job in run.settings.jobs if (owner := owner_of(job)) is not None]
    for owner in owners:
        if repository.owner_folder(owner).name in point.chain.split("/"):
            return owner
    raise RequestInvalid(shared, hint="Compact it with a configuration that has its job.")
