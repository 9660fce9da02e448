"""``holdfast worker``: a process that does the work of one role, or of all."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from holdfast.errors import RequestInvalid
from workers.cli.commands import RUN, command
from workers.cli.invocation import Invocation
from workers.config import find_file
from workers.roles import Role
from workers.run import ALL, duties_of, run_worker
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings

_ROLES = ", ".join([*(role.value for role in Role), ALL])


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "worker",
        panel=RUN,
        examples=(
            ("worker all", "every role of the configuration in one process"),
            ("worker proxy --name site-a", "one proxy, on the host that reaches its disks"),
            ("worker repository --name main", "the worker of one repository, on its host"),
            ("worker control --metrics 127.0.0.1:9464", "workflows and the catalog, with metrics for Prometheus"),
        ),
    )(worker)


def worker(
    run: Invocation,
    role: Annotated[str, typer.Argument(metavar="ROLE", help=f"One of {_ROLES}.")],
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Proxy or repository; all of them without.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", metavar="FILE", help="Keep this file while the worker serves.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics", metavar="HOST:PORT", help="Serve metrics to Prometheus here.")
    ] = None,
) -> None:
    """Serve a role until told to stop.

    The worker waits for its server, so the order of starting does not matter. An interrupt or SIGTERM lets short work
    end and hands long work to the next worker, which continues from the last commit.
    """
    if name is not None and role in {Role.CONTROL, ALL}:
        raise RequestInvalid(f"role {role} has no name")
    settings = run.settings
    duties = duties_of(settings, role, name)
    if not duties:
        raise RequestInvalid(f"the configuration has nothing for a worker of role {role}")
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    telemetry = start_telemetry(_telemetry(settings.telemetry, metrics))
    try:
        asyncio.run(run_worker(settings, duties, file=find_file(run.flags.config), ready=ready_file))
    finally:
        telemetry.shutdown()
    run.show({"state": "stopped", "queues": [duty.queue for duty in duties]})


def _telemetry(settings: TelemetrySettings, metrics: str | None) -> TelemetrySettings:
    """Return the settings with the address of this process: several workers of a host share one configuration."""
    return settings if metrics is None else msgspec.structs.replace(settings, prometheus_address=metrics)
