"""Tables as every command prints them, and how what is shown gets onto a console.

A string is text as it stands, never markup: names of machines, paths and messages are written by others. What has a
style is a `rich.text.Text`.
"""

from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.style import StyleType
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from holdfast.model.session import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOURS = {
    Outcome.RUNNING: "cyan",
    Outcome.SUCCESS: "green",
    Outcome.WARNING: "yellow",
    Outcome.FAILED: "red",
    Outcome.CANCELLED: "magenta",
}
_GAP = 2
"""Characters between two columns."""
_FOLDED_MIN = 9
"""Characters below which no column is folded: narrower ones cannot be read."""


class TextTable(Table):
    """A table without lines, whose strings are text as it stands.

    A column that does not wrap is as wide as the widest of its cells, so that nothing in it is ever cut; the others are
    folded, down to a few characters. A table for which the console is still too narrow is wider than the console.
    """

    def __init__(self, *, has_header: bool = True) -> None:
        super().__init__(box=None, show_header=has_header, header_style="dim", padding=(0, _GAP, 0, 0))

    @override
    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        """Add a row; a string is shown as it stands."""
        shown = [Text(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*shown, style=style, end_section=end_section)
        for index, cell in enumerate(shown):
            if isinstance(cell, Text):
                self._make_room(index, cell.cell_len)

    @override
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table, without blanks at the ends of lines.

        On a console that is too narrow the library would cut columns or leave them out whole.
        """
        needed = sum((column.min_width or 0) + _GAP for column in self.columns)
        # The gap behind the last column is drawn as well; it may stand outside, since it is taken away.
        wide = options.update_width(max(options.max_width + _GAP, needed))
        for line in Segment.split_lines(cast("Iterable[Segment]", super().__rich_console__(console, wide))):
            yield from _without_blanks(line)
            yield Segment.line()

    def _make_room(self, index: int, width: int) -> None:
        column = self.columns[index]
        needed = width if column.no_wrap else min(width, _FOLDED_MIN)
        column.min_width = max(column.min_width or 0, needed)

    def add_text_column(self, heading: str = "", *, style: StyleType | None = None) -> None:
        """Add a column of words, which are folded where there is no room."""
        self.add_column(heading, overflow="fold", style=style)
        self._make_room(len(self.columns) - 1, cell_len(heading))

    def add_whole_column(self, heading: str = "", *, is_number: bool = False, style: StyleType | None = None) -> None:
        """Add a column whose cells stand on one line, and whole."""
        self.add_column(heading, justify="right" if is_number else "left", no_wrap=True, style=style)
        self._make_room(len(self.columns) - 1, cell_len(heading))


def plain_table(*headings: str) -> TextTable:
    """Return an empty table without lines.

    A heading that begins with ``>`` is of a column of numbers, one with ``=`` of ids, times or chains: these are never
    cut, since they are pasted into the next command.
    """
    table = TextTable()
    for heading in headings:
        if heading.startswith((">", "=")):
            table.add_whole_column(heading[1:], is_number=heading.startswith(">"))
        else:
            table.add_text_column(heading)
    return table


def facts_table(values: int = 1) -> TextTable:
    """Return an empty table of facts: what, and its value, or several beside each other."""
    table = TextTable(has_header=False)
    table.add_whole_column(style="dim")
    for _ in range(values):
        table.add_text_column()
    return table


def coloured(outcome: Outcome) -> Text:
    """Return an outcome in its colour."""
    return Text(outcome.value, _COLOURS[outcome])


def put(console: Console, part: RenderableType) -> None:
    """Print a part of a result: a string as it stands, and nothing cut at the edge of a terminal."""
    shown = Text(part) if isinstance(part, str) else part
    console.print(shown, soft_wrap=isinstance(shown, Text), crop=False)


def _without_blanks(line: list[Segment]) -> list[Segment]:
    """Return a line of a table without the blanks at its end."""
    kept = list(line)
    while kept and not kept[-1].text.strip(" "):
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(" "), kept[-1].style)
    return kept
