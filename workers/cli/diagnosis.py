"""Shows what checks found, and ends the command accordingly."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from holdfast.errors import HoldfastError, error_class
from workers.cli.checks import Finding, Level
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def conclude(run: Invocation, findings: Sequence[Finding]) -> None:
    """Write the findings. Raises `CommandFailed` with the first failure when there is one."""
    document: dict[str, object] = {"findings": findings}
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    if not failed:
        run.show(document, *_page(findings))
        return
    if not run.flags.json:
        run.show(None, *_page(findings))
    error = (error_class(failed[0].code) or HoldfastError)(f"{failed[0].check}: {failed[0].text}", hint=failed[0].hint)
    raise CommandFailed(error, document | error_document(error), is_told=True)


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
