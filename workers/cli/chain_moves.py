"""``holdfast chain map``, ``rename`` and ``move``: chains that change their owner, their name or their place."""

from typing import Annotated

import msgspec
import typer

from holdfast.errors import MachineNotFound, RequestInvalid
from holdfast.model.ids import MachineId, RepositoryName
from workers.cli.chain_choice import RepositoryOption
from workers.cli.commands import command
from workers.cli.invocation import Invocation
from workers.cli.points import CredentialOption
from workers.cli.reading import read_points
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_session,
)
from workers.cli.starts import chains_start, credentials_of
from workers.repository_settings import RepositorySettings
from workflows.chain_messages import ChainTask, MoveRequest

IF_STOPPED = "chains stay where they were; what was moved whole stays in its new place"
_OF_MACHINE = "Whose chains: id or name of the machine, or its folder in the repository."

MachineArgument = Annotated[str, typer.Argument(metavar="MACHINE", help=_OF_MACHINE)]


def register(members: typer.Typer) -> None:
    """Add the commands."""
    command(
        members,
        "map",
        examples=(
            ("chain map web01 --to vm-2041 --job nightly", "the machine came back under another id"),
            ("chain map web-01-ca0df2c9 --to web01 --job nightly", "a chain that was imported from elsewhere"),
        ),
    )(map_machine)
    command(members, "rename", examples=(("chain rename web01 front01", "a folder that says what it holds"),))(rename)
    command(members, "move", examples=(("chain move web01 --to second", "to another repository, verified"),))(move)


def map_machine(
    run: Invocation,
    machine: MachineArgument,
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="MACHINE", help="The machine that goes on with them: its id; with --job also its name."
        ),
    ],
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="Job of that machine; it has to fit the chain.")
    ] = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Let another machine go on with the chains of one, as when it was registered anew and has another id.

    Its next run makes an increment, for which every disk is compared with the point before: change ids of another
    machine mean nothing. Without a job the machine is taken by its id as it is given, and nothing says that the next
    run can go on with the chain.
    """
    if job is not None and repository is None:
        repository = run.settings.job(job).repository
    request = _request(run, ChainTask.MAP, machine, repository, credential)
    changes: dict[str, object] = {"new_id": MachineId(to)}
    if job is not None:
        settings = run.settings.job(job)
        if settings.repository != request.repository:
            raise RequestInvalid(f"job {job} writes to repository {settings.repository}, not {request.repository}")
        changes |= {
            "provider": settings.provider,
            "proxy": run.settings.proxies_of(settings)[0].name,
            "unit_size": settings.unit_size,
            "job_credential": settings.credential,
        }
    _start(run, request, changes, detach=detach, patience_s=patience)


def rename(
    run: Invocation,
    machine: MachineArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name from now on.")],
    *,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Give a machine and its folder in the repository another name, for the points that are there.

    Later points have the name that the machine has at its provider. Whoever reads a chain meanwhile goes on reading.
    """
    request = _request(run, ChainTask.RENAME, machine, repository, credential)
    _start(run, request, {"new_name": name}, detach=detach, patience_s=patience)


def move(
    run: Invocation,
    machine: MachineArgument,
    *,
    to: Annotated[str, typer.Option("--to", metavar="REPOSITORY", help="Where they go.")],
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Move all chains of a machine to another repository: copied, read back, and only then let go.

    What is let go can be taken back with `retention undelete`. Jobs are not changed: one that still writes to the old
    repository begins a full there.
    """
    request = _request(run, ChainTask.MOVE, machine, repository, credential)
    target = run.repository_settings(to)
    if target.name == request.repository:
        raise RequestInvalid(f"the chains of {request.machine_name} are in repository {target.name} already")
    for job in run.settings.jobs:
        if job.repository == request.repository:
            way = f'begins a full there, and goes on with what was moved once it has `repository = "{target.name}"`'
            run.warn(f"job {job.name} writes to {job.repository}: for {request.machine_name} it {way}")
    _start(run, request, {"to": target.name}, detach=detach, patience_s=patience)


def _request(
    run: Invocation, task: ChainTask, machine: str, repository: str | None, credential: str | None
) -> MoveRequest:
    """Return what is asked for, of the machine that is meant.

    Raises `MachineNotFound`, and `RequestInvalid` when several machines have the name.
    """
    settings = run.repository_settings(repository)
    folder, machine_id, name = _machine(run, settings, machine, credential)
    named = credential_for(run, settings.name, credential) if credential is not None else None
    return MoveRequest(
        task=task,
        repository=RepositoryName(settings.name),
        folder=folder,
        machine_id=MachineId(machine_id),
        machine_name=name,
        credentials=(named,) if named is not None else credentials_of(run.settings, settings.name),
    )


def _machine(
    run: Invocation, settings: RepositorySettings, machine: str, credential: str | None
) -> tuple[str, str, str]:
    """Return folder, id and name of a machine with points."""
    points, unreadable = read_points(run, settings, credential)
    found = {}
    for listed in points:
        folder, known = listed.chain.split("/")[1], listed.point.machine
        if machine in {folder, known.machine_id, known.name, listed.chain}:
            found[folder] = (folder, known.machine_id, known.name)
    if not found and unreadable:
        raise unreadable[0].error
    if not found:
        raise MachineNotFound(f"repository {settings.name} has no points of {machine}")
    if len(found) > 1:
        raise RequestInvalid(f"{machine} may be any of {', '.join(sorted(found))}", hint="Name the folder.")
    return next(iter(found.values()))


def _start(
    run: Invocation, request: MoveRequest, changes: dict[str, object], *, detach: bool, patience_s: float
) -> None:
    session_id = new_session_id(run)
    request = msgspec.structs.replace(request, session_id=session_id, **changes)
    new = NewSession(session_id=session_id, start=chains_start(request), if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience_s)
