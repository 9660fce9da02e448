"""A chain as a picture of characters: what is seen of it in, as text for a terminal out."""

from collections.abc import Sequence
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from holdfast.model.chain_view import ChainView, FileView, PointView
from holdfast.planning.archives import kept_words
from workers.cli import wording
from workers.cli.tables import plain_table

_BAR_CELLS: Final = 12
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_SHAPES: Final = {"full": "■", "increment": "▲", "rollback": "▼"}
_ID_DIGITS: Final = 12


def chain_picture(view: ChainView) -> list[RenderableType]:
    """Return the picture of one chain: a head, a row for each point in the order of time, and what is wrong with it."""
    parts: list[RenderableType] = [_head(view), ""]
    rows = [(file, point) for file in view.files for point in file.points]
    if rows:
        parts += [_rows(view, sorted(rows, key=lambda row: row[1].number)), ""]
    parts += [_problem(trouble) for trouble in view.troubles]
    parts += [_problem(f"{file.name}: {file.trouble}") for file in view.files if file.trouble]
    own = {file.trouble for file in view.files}
    parts += [
        _problem(f"point {point.number}: {point.trouble}")
        for point in view.points
        if point.trouble and point.trouble not in own
    ]
    parts += [Text(f"{name} holds nothing any more", "dim") for name in view.leftovers]
    return [*parts, *([""] if not view.is_sound or view.leftovers else []), _legend(view)]


def bar(part: float, whole: float, cells: int = _BAR_CELLS) -> str:
    """Return a bar as long as ``part`` is of ``whole``; anything but nothing is seen."""
    if part <= 0 or whole <= 0:
        return ""
    eighths = max(1, round(8 * cells * min(part / whole, 1.0)))
    return _EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def state_of(point: PointView) -> tuple[str, str]:
    """Return in a word how a point is, and the colour of the word."""
    if point.trouble:
        return "broken", "red"
    return ("sound", "green") if point.is_complete else ("being written", "yellow")


def keeping(point: PointView) -> str:
    """Return in words why a point stays whatever its age; empty when there is no reason."""
    words = [*point.marks, *(["quick backup"] if point.is_quick else [])]
    if point.archive is not None:
        words.append(f"archive, {kept_words(point.archive)}")
    if point.locked_until is not None:
        words.append(f"locked until {wording.moment(point.locked_until)}")
    return ", ".join(words)


def _problem(words: str) -> Text:
    return Text.assemble(("problem", "red"), f": {words}")


def _head(view: ChainView) -> Text:
    machines = ", ".join(view.machines) or "no machine"
    how = "encrypted" if view.is_encrypted else "not encrypted"
    counts = f"{wording.count(len(view.points), 'point')} in {wording.count(len(view.files), 'file')}"
    sizes = f"{wording.size(view.size_bytes)} stored, {how}, units of {wording.size(view.unit_size)}"
    return Text.assemble((view.name, "bold"), f"  {machines}\n", (f"{counts}, {sizes}", "dim"))


def _rows(view: ChainView, rows: Sequence[tuple[FileView, PointView]]) -> Table:
    several = len(view.machines) > 1
    kept = any(keeping(point) for _, point in rows)
    machine = ["MACHINE"] if several else []
    heads = [
        "=",
        "=POINT",
        "=ID",
        *machine,
        "=CREATED",
        "FILE",
        ">DISKS",
        ">CHANGED",
        ">STORED",
        "=",
        "=NEEDS",
        "STATE",
    ]
    table = plain_table(*heads, *(["KEPT AS"] if kept else []))
    most = max(point.stored_bytes for _, point in rows)
    for index, (file, point) in enumerate(rows):
        word, colour = state_of(point)
        shape = f"{_line(index, len(rows))}{_SHAPES.get(file.kind, '?')}"
        cells: list[str | Text] = [Text(shape, colour), Text(str(point.number), "bold")]
        cells += [point.id[:_ID_DIGITS], *([point.machine] if several else [])]
        cells += [wording.moment(point.created), file.kind]
        cells += [wording.size(size) for size in (point.size_bytes, point.changed_bytes, point.stored_bytes)]
        cells += [Text(bar(point.stored_bytes, most), "cyan"), "-" if point.needs is None else f"point {point.needs}"]
        table.add_row(*cells, Text(word, colour), *([keeping(point)] if kept else []))
    return table


def _line(index: int, count: int) -> str:
    """Return the piece of the line that joins the points of a chain."""
    if count == 1:
        return "─"
    if index == 0:
        return "┌"
    return "└" if index == count - 1 else "├"


def _legend(view: ChainView) -> Text:
    kinds = [kind for kind in _SHAPES if any(file.kind == kind for file in view.files)]
    return Text("   ".join(f"{_SHAPES[kind]} {kind}" for kind in kinds), "dim")
