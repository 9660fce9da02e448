"""``holdfast doctor vsphere``: test a vCenter, and if a machine is named the whole way of its bytes."""

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.errors import HoldfastError, RequestInvalid
from holdfast.model.tags import self_test_tag
from workers.cli.checks import Finding, Level, fail
from workers.cli.commands import command
from workers.cli.diagnosis import conclude
from workers.cli.invocation import Invocation
from workers.provider_settings import VSphereProviderSettings
from workers.providers import vsphere_machine_test, vsphere_self_test

if TYPE_CHECKING:
    from holdfast.providers.vsphere.self_test import Finding as SelfTestFinding

_TOKEN_BYTES = 8
_LEVELS = {"ok": Level.OK, "warning": Level.WARN, "failed": Level.FAIL}


def register(members: typer.Typer) -> None:
    """Add the command."""
    command(
        members,
        "vsphere",
        examples=(
            ("doctor vsphere vcenter", "login, clock, privileges, machines, ways to read; touches no machine"),
            ("doctor vsphere vcenter --machine test-vm", "and take a snapshot of this one, read it, remove it"),
            ("doctor vsphere vcenter --json", "all findings as one document"),
        ),
    )(vsphere)


def vsphere(
    run: Invocation,
    name: Annotated[str, typer.Argument(help="Provider of kind vsphere.")],
    *,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine", "-m", metavar="NAME", help="Machine to try a snapshot on; id or name. It is changed."
        ),
    ] = None,
) -> None:
    """Test a vCenter: login, version, clock, privileges, machines, and every way to read disks.

    No machine is touched unless one is named. Of that one a snapshot is taken, change tracking is switched on if the
    provider uses it, up to 64 MiB of each disk are read over every way, and the snapshot is removed. Name a machine
    that is there for tests.
    """
    settings = run.settings.provider(name)
    if not isinstance(settings, VSphereProviderSettings):
        raise RequestInvalid(f"provider {name} is not of kind vsphere", hint="`holdfast doctor` checks the others.")
    conclude(run, list(_findings(run, settings, machine)))


def _findings(run: Invocation, settings: VSphereProviderSettings, machine: str | None) -> Iterator[Finding]:
    run.say(f"testing provider {settings.name}")
    try:
        for found in vsphere_self_test(settings, run.settings.credentials, run.clock):
            yield _shown(found)
            if found.check == "connection" and found.code:
                return
        if machine is None:
            return
        run.warn(f"a snapshot is taken of machine {machine}, and removed")
        tag = self_test_tag(secrets.token_hex(_TOKEN_BYTES))
        for found in vsphere_machine_test(settings, run.settings.credentials, run.clock, run.say).run(machine, tag):
            yield _shown(found)
    except HoldfastError as error:
        yield fail("provider", error)


def _shown(found: "SelfTestFinding") -> Finding:
    return Finding(
        check=found.check,
        level=_LEVELS[found.verdict],
        text=found.text,
        hint=found.hint,
        code=found.code,
        exit_status=found.exit_status,
    )
