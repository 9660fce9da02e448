"""Tables as every command prints them."""

from rich.table import Table

from holdfast.model.session import Outcome

_COLOURS = {
    Outcome.RUNNING: "cyan",
    Outcome.SUCCESS: "green",
    Outcome.WARNING: "yellow",
    Outcome.FAILED: "red",
    Outcome.CANCELLED: "magenta",
}


def plain_table(*headings: str) -> Table:
    """Return an empty table without lines; a heading that begins with ``>`` is of a column of numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading in headings:
        is_number = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if is_number else "left", no_wrap=is_number)
    return table


def facts_table() -> Table:
    """Return an empty table of facts: what, and its value."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def coloured(outcome: Outcome) -> str:
    """Return an outcome as markup."""
    return f"[{_COLOURS[outcome]}]{outcome.value}[/]"
