"""Shows what checks found, and ends the command accordingly."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from holdfast.errors import HoldfastError, error_class
from workers.cli.checks import Finding, Level
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import TextTable

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
    table = TextTable(has_header=False)
    table.add_whole_column()
    table.add_whole_column(style="bold")
    table.add_text_column()
    for finding in findings:
        table.add_row(Text(finding.level.value, _COLOURS[finding.level]), finding.check, finding.text)
        if finding.hint:
            table.add_row("", "", Text(finding.hint, "dim"))
    return [table]
