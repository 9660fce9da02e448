"""Chains as a vector picture: what is seen of them in, the text of an SVG file out.

Each point is a column in the order of time. The wide box is what is stored for it, the frame around it what changed;
both grow with the square root of the bytes, so that increments are seen beside a full. A curve leads from each point to
the one that it needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from holdfast.model.chain_view import ChainView, FileView, PointView
from workers.cli import wording
from workers.cli.chain_text import keeping, state_of

_MARGIN: Final = 24
_SLOT: Final = 76
_BOX: Final = 44
_HEAD: Final = 58
_MARKS: Final = 26
_TALLEST: Final = 120
_LEAST: Final = 4
_CURVES: Final = 34
_FOOT: Final = 72
_LEGEND: Final = 60
_WIDTH_MIN: Final = 720
_LINE: Final = 16
_WORDS_MAX: Final = 96

_STYLE: Final = """\
svg { --paper: #ffffff; --ink: #1d2733; --faint: #66707c; --full: #2f6f9f; --increment: #4a9d6a; --rollback: #b07d2b;
      --line: #a9b2bc; --bad: #c0392b; --busy: #b58900; }
@media (prefers-color-scheme: dark) {
svg { --paper: #10161d; --ink: #e6ebf0; --faint: #97a3af; --full: #6aaede; --increment: #74c493; --rollback: #d9ab5d;
      --line: #4f5b67; --bad: #f0776a; --busy: #d9b44a; } }
text { font-family: system-ui, "DejaVu Sans", sans-serif; font-size: 11px; fill: var(--ink); }
.title { font-size: 15px; font-weight: 600; } .faint { fill: var(--faint); } .bad { fill: var(--bad); }
.middle { text-anchor: middle; } .paper { fill: var(--paper); }
.full { fill: var(--full); } .increment { fill: var(--increment); } .rollback { fill: var(--rollback); }
.frame { fill: none; stroke: var(--line); stroke-dasharray: 3 2; } .curve { fill: none; stroke: var(--line); }
.broken { stroke: var(--bad); stroke-width: 3; } .writing { stroke: var(--busy); stroke-width: 3; }
.unknown { fill: var(--line); } .mark { fill: var(--paper); stroke: var(--ink); } .lock { stroke: var(--ink); fill: none; }
"""  # noqa: E501 - a style is read by lines, too


def chain_svg(views: Sequence[ChainView]) -> str:
    """Return one picture of some chains, one below the other."""
    width = max([_WIDTH_MIN, *(2 * _MARGIN + _SLOT * len(view.points) for view in views)])
    parts: list[str] = []
    top = _MARGIN
    for view in views:
        parts += _chain(view, top)
        top += _height(view)
    parts += _legend(top)
    height = top + _LEGEND
    names = ", ".join(view.name for view in views)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label={quoteattr(_clean(names))}>'
    )
    paper = f'<rect class="paper" width="{width}" height="{height}"/>'
    return "\n".join([head, f"<style>{_STYLE}</style>", paper, *parts, "</svg>", ""])


def _height(view: ChainView) -> int:
    return _HEAD + _MARKS + _TALLEST + _CURVES + _FOOT + _LINE * len(_problems(view)) + _MARGIN


def _chain(view: ChainView, top: int) -> Iterator[str]:
    how = "encrypted" if view.is_encrypted else "not encrypted"
    facts = f"{wording.count(len(view.points), 'point')}, {wording.size(view.size_bytes)} stored, {how}"
    yield _text(_MARGIN, top + 16, f"{', '.join(view.machines) or 'no machine'}", "title")
    yield _text(_MARGIN, top + 36, f"{view.name}: {facts}", "faint")
    floor = top + _HEAD + _MARKS + _TALLEST
    rows = sorted(((p, file) for file in view.files for p in file.points), key=lambda row: row[0].number)
    scale = sqrt(max([1, *(max(point.stored_bytes, point.changed_bytes) for point, _ in rows)]))
    places = {point.number: _MARGIN + _SLOT * index + _SLOT // 2 for index, (point, _) in enumerate(rows)}
    for point, file in rows:
        yield from _column(point, file, places[point.number], floor, scale)
        yield from _curve(point, places, floor)
    for index, words in enumerate(_problems(view)):
        yield _text(_MARGIN, floor + _CURVES + _FOOT + _LINE * index, words, "bad")


def _column(point: PointView, file: FileView, x: int, floor: int, scale: float) -> Iterator[str]:
    stored, changed = (_tall(size, scale) for size in (point.stored_bytes, point.changed_bytes))
    kind = file.kind if file.kind in {"full", "increment", "rollback"} else "unknown"
    state = "broken" if point.trouble else "" if point.is_complete else "writing"
    told = [f"point {point.number}, {file.kind}, {point.machine}", wording.moment(point.created), state_of(point)[0]]
    told += [f"{wording.size(point.changed_bytes)} changed, {wording.size(point.stored_bytes)} stored", point.trouble]
    yield f"<g><title>{_clean('; '.join(filter(None, [*told, keeping(point)])))}</title>"
    yield f'<rect class="frame" x="{x - _BOX // 2 - 3}" y="{floor - changed}" width="{_BOX + 6}" height="{changed}"/>'
    yield f'<rect class="{kind} {state}" x="{x - _BOX // 2}" y="{floor - stored}" width="{_BOX}" height="{stored}"/>'
    yield from _keeping_signs(point, x, floor - max(stored, changed) - 14)
    for line, words in enumerate(
        (f"{point.number}", point.created.strftime("%Y-%m-%d"), point.created.strftime("%H:%M"))
    ):
        yield _text(x, floor + _CURVES + 12 + 13 * line, words, "middle" if line == 0 else "middle faint")
    yield _text(x, floor + _CURVES + 12 + 39, wording.size(point.stored_bytes), "middle faint")
    yield "</g>"


def _keeping_signs(point: PointView, x: int, y: int) -> Iterator[str]:
    """Draw a circle with a letter for each reason why a point stays, and a lock for a lock."""
    letters = [mark[:1].upper() for mark in point.marks]
    letters += ["Q"] * point.is_quick + ["A"] * (point.archive is not None)
    count = len(letters) + (point.locked_until is not None)
    left = x - 9 * (count - 1)
    for index, letter in enumerate(letters):
        yield f'<circle class="mark" cx="{left + 18 * index}" cy="{y}" r="8"/>'
        yield _text(left + 18 * index, y + 4, letter, "middle")
    if point.locked_until is not None:
        at = left + 18 * len(letters)
        yield f'<rect class="lock" x="{at - 5}" y="{y - 2}" width="10" height="8"/>'
        yield f'<path class="lock" d="M {at - 3} {y - 2} v -2 a 3 3 0 0 1 6 0 v 2"/>'


def _curve(point: PointView, places: Mapping[int, int], floor: int) -> Iterator[str]:
    """Draw the way from a point to the one that it needs, below the boxes."""
    if point.needs is None or point.needs not in places:
        return
    start, end, top = places[point.number], places[point.needs], floor + 3
    deep = top + _CURVES - 8
    yield f'<path class="curve" d="M {start} {top} C {start} {deep}, {end} {deep}, {end} {top}"/>'
    yield f'<path class="curve" d="M {end - 4} {top + 6} L {end} {top} L {end + 4} {top + 6}"/>'


def _problems(view: ChainView) -> list[str]:
    found = [*view.troubles, *(f"{file.name}: {file.trouble}" for file in view.files if file.trouble)]
    told = {file.trouble for file in view.files}
    found += [f"point {p.number}: {p.trouble}" for p in view.points if p.trouble and p.trouble not in told]
    return [words if len(words) <= _WORDS_MAX else f"{words[: _WORDS_MAX - 1]}…" for words in found]


def _legend(top: int) -> Iterator[str]:
    x = _MARGIN
    for kind, words in (
        ("full", "full, stored"),
        ("increment", "increment, stored"),
        ("rollback", "rollback, stored"),
        ("frame", "changed"),
        ("unknown broken", "broken"),
    ):
        yield f'<rect class="{kind}" x="{x}" y="{top}" width="12" height="12"/>'
        yield _text(x + 18, top + 10, words, "faint")
        x += 134
    signs = "in circles: weekly, monthly and yearly points by their letter, Q quick backup, A archive; a lock: locked"
    yield _text(_MARGIN, top + 32, signs, "faint")


def _tall(size: int, scale: float) -> int:
    return max(_LEAST, round(_TALLEST * sqrt(size) / scale)) if size else 0


def _text(x: int, y: int, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{_clean(words)}</text>'


def _clean(words: str) -> str:
    """Return words as an XML document may hold them: names of machines come from elsewhere."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words))
