"""``holdfast quick-backup``: an increment of machines now, into the jobs that have their newest points."""

from typing import Annotated

import msgspec
import typer

from holdfast.catalog.database import Catalog
from holdfast.errors import PointNotFound, RequestInvalid
from holdfast.model.archives import is_archive
from holdfast.model.fulls import MethodOptions
from holdfast.model.ids import JobName, MachineId
from holdfast.model.retention import Method, QuickBackup
from workers.cli.backup import IF_STOPPED, options_of, request_of, upkeep_of
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.job_of_machine import newest_of_a_job
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    new_session_id,
    run_sessions,
)
from workers.cli.starts import quick_start
from workers.job_settings import JobSettings
from workflows.messages import BackupRequest, UpkeepOptions

MachinesArgument = Annotated[list[str], typer.Argument(metavar="MACHINE...", help="Ids or names.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "quick-backup",
        panel=PROTECT,
        examples=(
            ("quick-backup web", "an increment of web now, before it is changed"),
            ("quick-backup web db --detach", "two machines; of two jobs, if they have their points"),
        ),
    )(quick_backup)


def quick_backup(
    run: Invocation,
    machine: MachinesArgument,
    *,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Make an increment of machines now, each into the job of the configuration that has its newest point.

    There is one session for each of these jobs; it waits for one of the job that runs, and the next one waits for it.
    The point goes with the point of the job before it, when retention lets that go.
    """
    with run.catalog() as catalog:
        chosen = _by_job(run, catalog, machine)
    news = []
    for job, machines in chosen.items():
        request = _request(run, job, machines)
        news.append(NewSession(session_id=request.session_id, start=quick_start(request), if_stopped=IF_STOPPED))
    run_sessions(run, news, detach=detach, patience_s=patience)


def _by_job(run: Invocation, catalog: Catalog, names: list[str]) -> dict[JobName, list[MachineId]]:
    found: dict[JobName, list[MachineId]] = {}
    for name in names:
        machine_id, job = _newest(run, catalog, name)
        machines = found.setdefault(job, [])
        machines += [] if machine_id in machines else [machine_id]
    return found


def _newest(run: Invocation, catalog: Catalog, name: str) -> tuple[MachineId, JobName]:
    """Return which machine is meant, and the job with its newest point. Raises `PointNotFound`, `RequestInvalid`."""
    points = [point for point in catalog.points.list(machine=name) if not is_archive(point.chain)]
    if len({point.machine_id for point in points}) > 1:
        raise RequestInvalid(f"several machines with points are called {name}", hint="Give the id of one.")
    found = newest_of_a_job(run, catalog, points)
    if found is not None:
        return found[0].machine_id, found[1].name
    hint = f"Run the job that is to protect it, or make an archive: `holdfast archive {name}`."
    raise PointNotFound(f"no job of the configuration has a restore point of {name}", hint=hint)


def _request(run: Invocation, job: JobName, machines: list[MachineId]) -> BackupRequest:
    settings = msgspec.structs.replace(run.settings.job(job), machines=tuple(machines), excluded=())
    rules = settings.retention
    quick = QuickBackup(timezone=settings.timezone, lock_days=0 if rules is None else rules.lock)
    options = msgspec.structs.replace(options_of(settings), fulls=None, on_broken_chain=None, quick=quick)
    request = request_of(run.settings, settings, new_session_id(run), options)
    return msgspec.structs.replace(request, upkeep=_upkeep(settings))


def _upkeep(settings: JobSettings) -> UpkeepOptions | None:
    """Return what a quick backup does with chains: retention as ever, and of the method only what no day decides."""
    wanted = upkeep_of(settings)
    if wanted is None:
        return None
    is_reverse = wanted.method is not None and wanted.method.method is Method.REVERSE
    method = MethodOptions(method=Method.REVERSE, compression=settings.compression) if is_reverse else None
    kept = msgspec.structs.replace(wanted, method=method)
    return None if kept == UpkeepOptions() else kept
