"""``holdfast doctor``: check an installation and say what to do next."""

import asyncio
from collections.abc import Iterable, Sequence

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from holdfast.errors import HoldfastError, error_class
from workers.cli.checks import (
    Finding,
    Level,
    check_configuration,
    check_home,
    check_providers,
    check_repositories,
    check_tools,
    is_usable,
)
from workers.cli.commands import LOOK, command
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.temporal_checks import check_temporal

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "doctor",
        panel=LOOK,
        examples=(
            ("doctor", "check everything"),
            ("doctor --json | jq '.findings[] | select(.level != \"ok\")'", "only what needs attention"),
        ),
    )(doctor)


def doctor(run: Invocation) -> None:
    """Check the installation: configuration, catalog, repositories, providers, Temporal and its workers.

    Every line says ok, warn or fail, and what to do. The exit status is 0 unless something fails; then it is that of
    the first failure.
    """
    findings = list(_findings(run))
    document: dict[str, object] = {"findings": findings}
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    if not failed:
        run.show(document, *_page(findings))
        return
    if not run.flags.json:
        run.show(None, *_page(findings))
    error = (error_class(failed[0].code) or HoldfastError)(f"{failed[0].check}: {failed[0].text}", hint=failed[0].hint)
    raise CommandFailed(error, document | error_document(error), is_told=True)


def _findings(run: Invocation) -> Iterable[Finding]:
    configuration = list(check_configuration(run))
    yield from configuration
    if not is_usable(configuration):
        return
    for check in (check_tools, check_home, check_repositories, check_providers):
        yield from check(run)
    yield from asyncio.run(check_temporal(run.settings, run.clock))


def _page(findings: Sequence[Finding]) -> list[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for finding in findings:
        colour = _COLOURS[finding.level]
        table.add_row(f"[{colour}]{finding.level.value}[/]", escape(finding.check), escape(finding.text))
        if finding.hint:
            table.add_row("", "", f"[dim]{escape(finding.hint)}[/]")
    return [table]
