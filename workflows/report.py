"""The report of a session as Markdown, for the details of a workflow in Temporal's web pages.

Pure: values in, text out. Bounded, however many machines a session has.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from holdfast.model.session import Figures, Outcome, Problem
from holdfast.model.words import count_text
from holdfast.planning.bottleneck import Stage, bottleneck, bottleneck_words, busy_percent

ROWS_MAX: Final = 100
BYTES_MAX: Final = 20_000
"""Temporal's limit on the details of a workflow."""
SUMMARY_BYTES_MAX: Final = 200
"""Half of Temporal's limit on a summary; longer ones are unreadable in a list."""

_NOTES_MAX: Final = 20
_NAMES_MAX: Final = 8
_TEXT_MAX: Final = 120
_NOTE_MAX: Final = 300
_WORDS_MAX: Final = 32
"""Of a last cell that stays on one line."""
_SPECIAL: Final = re.compile(r"[\\`*_\[\]<>|#~]|--+|\.{3,}|\((?=(?:c|r|tm)\))|(?<=\d)/(?=\d)|&", re.IGNORECASE)
"""What Markdown or the typesetting of Temporal's pages would make something else of: ``--`` a dash, ``1/2`` a half."""
_ENTITIES: Final = {"&": "&#38;", "/": "&#47;"}
"""Of characters that the pages know no backslash for; they know entities by number only."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_WHOLE_FROM: Final = 100
_MINUTE_S: Final = 60
_SPACE: Final = "\u00a0"
"""Does not break: the pages make columns as narrow as their longest word."""
_HYPHEN: Final = "\u2011"
"""Does not break either, as that of a date."""
_GAP: Final = _SPACE * 2
"""Keeps columns apart: the pages leave no space between them, and ``1.0:1`` beside ``46 MiB`` read ``1.0:146 MiB``."""
_HEADINGS: Final = ("Disk", "State", "Size", "Read", "Sent", "Stored", "Ratio")
"""The pages cut what is wider than half a window, so the state stands in front."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One disk."""

    machine: str
    disk: str
    outcome: Outcome
    state: str
    """In a word or two: waiting, transferring, done, failed."""
    detail: str = ""
    """How it was read and why, or what went wrong; it stands below the table, once for all disks that share it."""
    figures: Figures = Figures()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What a session shows besides its disks: of a row, the first and a long last cell may become several lines."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a session shows of itself."""

    title: str
    """What is done, such as ``backup nightly``."""
    outcome: Outcome
    phase: str
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values above the table."""
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
    tables: tuple[Table, ...] = ()
    """Behind problem and notes; of long ones the first rows are shown."""


def render(report: Report) -> str:
    """Return the report as Markdown of at most `BYTES_MAX` bytes.

    Where rows must be left out, those of disks with trouble stay.
    """
    rows = sorted(report.rows, key=lambda row: _IMPORTANCE[row.outcome]) if len(report.rows) > ROWS_MAX else report.rows
    shown = min(max(len(rows), *(len(table.rows) for table in report.tables), 0), ROWS_MAX)
    while True:
        text = "\n".join(_lines(report, rows[:shown], shown))
        if len(text.encode()) <= BYTES_MAX:
            return text
        if shown == 0:
            return text.encode()[:BYTES_MAX].decode(errors="ignore")
        shown = shown * 3 // 4


def size_text(size_bytes: float) -> str:
    """Return a size as people read it: ``40 GiB``, ``1.5 MiB``."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    digits = 0 if value >= _WHOLE_FROM or value == int(value) else 1
    return f"{value:.{digits}f} {unit}"


def duration_text(seconds: float) -> str:
    """Return a time span as people read it: ``42 s``, ``3 min 5 s``, ``2 h 1 min``."""
    whole = round(seconds)
    minutes, rest_s = divmod(whole, _MINUTE_S)
    hours, rest_min = divmod(minutes, _MINUTE_S)
    if hours:
        return f"{hours} h {rest_min} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"


def summary(text: str) -> str:
    """Return ``text`` as one line that Temporal accepts as a summary."""
    line = " ".join(text.split())
    if len(line.encode()) <= SUMMARY_BYTES_MAX:
        return line
    return line.encode()[: SUMMARY_BYTES_MAX - 3].decode(errors="ignore") + "…"


def facts_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown of at most `BYTES_MAX` bytes and `ROWS_MAX` rows."""
    lines = [_cells(headings[0], headings[1:]), "|".join(["", *["---"] * len(headings), ""])]
    lines += [_cells(_plain(row[0], 60), [_plain(cell) for cell in row[1:]]) for row in rows[:ROWS_MAX]]
    if len(rows) > ROWS_MAX:
        lines.append(f"\n… and {len(rows) - ROWS_MAX} more")
    return "\n".join(lines).encode()[:BYTES_MAX].decode(errors="ignore")


_IMPORTANCE: Final = {
    Outcome.FAILED: 0,
    Outcome.CANCELLED: 1,
    Outcome.WARNING: 2,
    Outcome.RUNNING: 3,
    Outcome.SUCCESS: 4,
}


def _lines(report: Report, rows: Sequence[Row], shown: int) -> list[str]:
    phase = "" if report.phase in {report.outcome.value, ""} else f" · {_plain(report.phase, _NOTE_MAX)}"
    lines = [f"**{_plain(report.title)}** · {report.outcome.value}{phase}", ""]
    total = _sum(report.rows)
    facts = (*report.facts, ("Bottleneck", bottleneck_words(total)))
    lines += [f"- {_plain(name)}: {_plain(value, _NOTE_MAX)}" for name, value in facts if value]
    if report.rows:
        lines += ["", _cells("Machine", _HEADINGS), "|---|---|---|--:|--:|--:|--:|--:|", *map(_row, rows)]
        if len(rows) < len(report.rows):
            lines.append(_cells("…", (f"{len(report.rows) - len(rows)} more", *[""] * 6)))
        lines.append(_total(total, len(report.rows)))
    if report.problem is not None:
        problem = report.problem
        lines += ["", "### Problem", "", f"**{_plain(problem.code)}**: {_plain(problem.message, _NOTE_MAX)}"]
        lines += ["", _plain(problem.hint, _NOTE_MAX)] if problem.hint else []
    if report.notes:
        lines += ["", "### Notes", "", *(f"- {_plain(note, _NOTE_MAX)}" for note in report.notes[:_NOTES_MAX])]
        if len(report.notes) > _NOTES_MAX:
            lines.append(f"- … and {len(report.notes) - _NOTES_MAX} more")
    for table in report.tables:
        lines += _table(table, shown)
    return lines + _details(rows) + _times(report.rows)


def _table(table: Table, shown: int) -> list[str]:
    """Return a table with at most ``shown`` rows."""
    lines = ["", f"### {_plain(table.title)}", "", _cells(table.headings[0], table.headings[1:])]
    lines.append("|".join(["", *["---"] * len(table.headings), ""]))
    for first, *middle, last in table.rows[:shown]:
        behind = _GAP + _plain(last) if len(last) > _WORDS_MAX else _unbroken(_plain(last))
        between = (_unbroken(_plain(cell)).replace("-", _HYPHEN) for cell in middle)
        cells = (_plain(first, 60), *between, behind)
        lines.append(f"| {' | '.join(cells)} |")
    left = len(table.rows) - shown
    return [*lines, "", f"… and {left} more"] if left > 0 else lines


def _row(row: Row) -> str:
    return _cells(_plain(row.machine, 60), (_plain(row.disk, 60), _plain(row.state), *_figures(row.figures)))


def _details(rows: Sequence[Row]) -> list[str]:
    """Return what is said of disks, those with trouble first, each text with the disks that it is about."""
    about: dict[str, dict[str, list[str]]] = {}
    for row in sorted(rows, key=lambda row: _IMPORTANCE[row.outcome]):
        if row.detail:
            about.setdefault(row.detail, {}).setdefault(row.machine, []).append(row.disk)
    if not about:
        return []
    lines = [f"- {_disks(disks)}: {_plain(detail, _NOTE_MAX)}" for detail, disks in list(about.items())[:_NOTES_MAX]]
    if len(about) > _NOTES_MAX:
        lines.append(f"- … and {len(about) - _NOTES_MAX} more")
    return ["", "### Disks", "", *lines]


def _disks(disks: Mapping[str, Sequence[str]]) -> str:
    """Return machines with their disks, as ``web (2000, 2001), db (2000) and 3 more``."""
    named = [
        f"{_plain(machine, 60)} ({_listed([_plain(key, 60) for key in keys])})"
        for machine, keys in list(disks.items())[:_NAMES_MAX]
    ]
    return _listed(named, len(disks))


def _listed(texts: Sequence[str], count: int | None = None) -> str:
    shown = texts[:_NAMES_MAX]
    left = (len(texts) if count is None else count) - len(shown)
    return ", ".join(shown) + (f" and {left} more" if left else "")


def _cells(first: str, others: Sequence[str]) -> str:
    """Return a row of the table; only its first cell may become several lines."""
    return f"| {first} | {' | '.join(map(_unbroken, others))} |"


def _unbroken(text: str) -> str:
    return _GAP + text.replace(" ", _SPACE) if text else ""


def _total(total: Figures, disks: int) -> str:
    count = count_text(disks, "disk")
    return _cells("**all**", (count, "", *_figures(total)))


def _sum(rows: Sequence[Row]) -> Figures:
    return sum((row.figures for row in rows), Figures())


def _figures(figures: Figures) -> list[str]:
    has_moved = figures.read_bytes > 0 or figures.processed_bytes > 0
    if not has_moved:
        return [size_text(figures.size_bytes), *[""] * 4]
    ratio = f"{figures.read_bytes / figures.transferred_bytes:.1f}:1" if figures.transferred_bytes else ""
    moved = (figures.read_bytes, figures.transferred_bytes, figures.stored_bytes)
    return [_extent(figures), *map(size_text, moved), ratio]


def _rate(figures: Figures) -> str:
    pace = round(figures.read_bytes / figures.duration_s) if figures.duration_s > 0 else 0
    return f"{size_text(pace)}/s" if pace else ""


def _times(rows: Sequence[Row]) -> list[str]:
    """Return how long each of the slowest disks took, and for what part of it each stage was busy."""
    timed = [row for row in rows if busy_percent(row.figures)]
    slowest = sorted(timed, key=lambda row: -row.figures.duration_s)[:_NOTES_MAX]
    stages = [stage for stage in Stage if any(stage in busy_percent(row.figures) for row in slowest)]
    if not slowest:
        return []
    lines = ["", "### Time", "", _cells("Machine", ("Disk", "Took", "Rate", *(stage.value for stage in stages)))]
    lines += ["|---|---|--:|--:|" + "--:|" * len(stages), *(_time(row, stages) for row in slowest)]
    return lines + (["", f"… and {len(timed) - len(slowest)} more that were faster"] if timed[_NOTES_MAX:] else [])


def _time(row: Row, stages: Sequence[Stage]) -> str:
    percent, slowest = busy_percent(row.figures), bottleneck(row.figures)
    cells = [f"{percent[stage]:.0f} %" if stage in percent else "" for stage in stages]
    marked = (f"**{cell}**" if stage is slowest else cell for stage, cell in zip(stages, cells, strict=True))
    took = (duration_text(row.figures.duration_s), _rate(row.figures))
    return _cells(_plain(row.machine, 60), (_plain(row.disk, 60), *took, *marked))


def _extent(figures: Figures) -> str:
    """Return the size of a disk, and how much of it was dealt with when that was not all."""
    size, processed = figures.size_bytes, figures.processed_bytes
    return f"{size_text(processed)} of {size_text(size)}" if 0 < processed < size else size_text(size)


def _plain(text: str, length_max: int = _TEXT_MAX) -> str:
    """Return ``text`` on one line, cut, and without meaning to Markdown."""
    line = " ".join(text.split())
    if len(line) > length_max:
        line = line[: length_max - 1] + "…"
    return _SPECIAL.sub(lambda found: "".join(_ENTITIES.get(char, f"\\{char}") for char in found[0]), line)
