"""``holdfast doctor``: check an installation and say what to do next."""

import asyncio
from collections.abc import Iterable

import typer

from workers.cli import doctor_vsphere
from workers.cli.certificate_checks import check_certificate
from workers.cli.checks import (
    Finding,
    check_configuration,
    check_home,
    check_providers,
    check_repositories,
    check_tools,
    is_usable,
)
from workers.cli.commands import LOOK, alone, family
from workers.cli.diagnosis import conclude
from workers.cli.invocation import Invocation
from workers.cli.mover_checks import check_movers
from workers.cli.temporal_checks import check_temporal
from workers.cli.throttling_checks import check_throttling


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "doctor", panel=LOOK, help_line="Check the installation.")
    alone(
        members,
        examples=(
            ("doctor", "check everything"),
            ("doctor --json | jq '.findings[] | select(.level != \"ok\")'", "only what needs attention"),
            ("doctor vsphere vcenter", "test one vCenter thoroughly"),
        ),
    )(doctor)
    doctor_vsphere.register(members)


def doctor(run: Invocation) -> None:
    """Check the installation: configuration, catalog, repositories, movers, limits, providers, Temporal, workers.

    Every line says ok, warn or fail, and what to do. The exit status is 0 unless something fails; then it is that of
    the first failure.
    """
    conclude(run, list(_findings(run)))


def _findings(run: Invocation) -> Iterable[Finding]:
    configuration = list(check_configuration(run))
    yield from configuration
    if not is_usable(configuration):
        return
    checks = (
        check_tools,
        check_home,
        check_repositories,
        check_certificate,
        check_movers,
        check_throttling,
        check_providers,
    )
    for check in checks:
        yield from check(run)
    yield from asyncio.run(check_temporal(run.settings, run.clock))
