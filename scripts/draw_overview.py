"""Draw the overview picture, light and dark, from the names the code uses.

Usage: .venv/bin/python -m scripts.draw_overview
"""

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

import msgspec

from activities.binding import contract_name
from activities.contracts import repository, snapshot, transfer
from holdfast.model.ids import JobName, RepositoryName
from holdfast.pipeline.stages import StageTimes
from holdfast.storage.chains.chain import chain_file_name
from holdfast.storage.chains.metadata import METADATA_NAME
from workflows.queues import CONTROL, backup_id, proxy_queue, repository_queue, transfer_queue

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"

PROXY = "north"
REPOSITORY = RepositoryName("vault")
JOB = JobName("nightly")

WIDTH, HEIGHT = 1020, 482
LANES_TOP, LANE_HEIGHT = 276, 46
TIME_START, TIME_END = 160, 996
KILLED_AT, RESUMED_AT = 560, 598
COMMITS = (450, 482, 514)


class Theme(msgspec.Struct, frozen=True, kw_only=True):
    """Colours of one picture."""

    name: str
    paper: str
    ink: str
    faint: str
    box: str
    line: str
    work: str
    done: str
    lost: str


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work in a lane of the timeline."""

    lane: int
    start: int
    end: int
    label: str
    is_killed: bool = False


THEMES = (
    Theme(
        name="light",
        paper="#ffffff",
        ink="#1f2328",
        faint="#59636e",
        box="#f6f8fa",
        line="#c4ccd4",
        work="#cfe3fb",
        done="#1a7f37",
        lost="#cf222e",
    ),
    Theme(
        name="dark",
        paper="#0d1117",
        ink="#e6edf3",
        faint="#9198a1",
        box="#161b22",
        line="#3d444d",
        work="#173a63",
        done="#3fb950",
        lost="#f85149",
    ),
)

QUEUES = (CONTROL, proxy_queue(PROXY), transfer_queue(PROXY), repository_queue(REPOSITORY))

BARS = (
    Bar(lane=0, start=TIME_START, end=TIME_END, label=f"workflow {backup_id(JOB)}"),
    Bar(lane=1, start=166, end=270, label=contract_name(snapshot.create_snapshot)),
    Bar(lane=3, start=274, end=418, label=contract_name(repository.begin_point)),
    Bar(lane=2, start=422, end=KILLED_AT, label=contract_name(transfer.copy_disk), is_killed=True),
    Bar(lane=2, start=RESUMED_AT, end=726, label=contract_name(transfer.copy_disk)),
    Bar(lane=1, start=730, end=834, label=contract_name(snapshot.remove_snapshot)),
    Bar(lane=3, start=838, end=992, label=contract_name(repository.finish_point)),
)


def picture(theme: Theme) -> str:
    """Return one picture as SVG."""
    title = "A backup session whose proxy worker is killed and that goes on at the last commit"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    fonts = "system-ui, -apple-system, Segoe UI, sans-serif"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}" font-family="{fonts}">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{theme.paper}"/>',
        *_source_host(theme),
        *_proxy(theme),
        *_repository(theme),
        _arrow(theme, 240, 310),
        _arrow(theme, 678, 748),
        *_timeline(theme),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _source_host(theme: Theme) -> Iterator[str]:
    yield _box(theme, (24, 24, 216, 168))
    yield _text(theme, (40, 50), "source host", font="title")
    yield _text(theme, (40, 70), "machines and their disks")
    for row, name in enumerate(("disk-0", "disk-1")):
        top = 92 + row * 42
        yield _box(theme, (40, top, 76, 30), fill=theme.paper)
        yield _text(theme, (78, top + 19), name, font="mono", anchor="middle")
        yield _box(theme, (148, top, 76, 30), fill=theme.work, dashed=True)
        yield _text(theme, (186, top + 19), "snapshot", anchor="middle")
        yield _arrow(theme, 118, 144, top + 15)


def _proxy(theme: Theme) -> Iterator[str]:
    yield _box(theme, (314, 24, 364, 168))
    yield _text(theme, (330, 50), f"proxy {PROXY}", font="title")
    yield _text(theme, (330, 70), "one data pipe per disk, bounded, resumable")
    waits = {"answer_wait_s", "commit_wait_s", "throttled_s"}
    stages = [field.removesuffix("_s") for field in StageTimes.__struct_fields__ if field not in waits]
    for index, stage in enumerate(stages):
        left = 328 + index * 69
        yield _box(theme, (left, 92, 60, 30), fill=theme.work)
        yield _text(theme, (left + 30, 111), stage, font="mono", anchor="middle")
        if index:
            yield _arrow(theme, left - 9, left - 1, 107)
    yield _text(theme, (330, 148), "an increment reads and stores only what changed;")
    yield _text(theme, (330, 166), "each unit is decoded again before it is written")


def _repository(theme: Theme) -> Iterator[str]:
    yield _box(theme, (752, 24, 244, 168))
    yield _text(theme, (768, 50), f"repository {REPOSITORY}", font="title")
    yield _text(theme, (768, 70), "one chain of files per machine")
    names = (chain_file_name(1, "full"), chain_file_name(2, "increment"), chain_file_name(3, "increment"))
    for row, name in enumerate((*names, METADATA_NAME)):
        top = 84 + row * 26
        is_open = row == len(names) - 1
        yield _box(theme, (768, top, 212, 21), fill=theme.work if is_open else theme.paper, dashed=is_open)
        yield _text(theme, (778, top + 15), name, font="mono")


def _timeline(theme: Theme) -> Iterator[str]:
    yield _text(theme, (24, 232), "One session in Temporal", font="title")
    yield _text(theme, (24, 252), "task queues, and the activities that each of them serves")
    for lane, queue in enumerate(QUEUES):
        middle = LANES_TOP + lane * LANE_HEIGHT + 12
        yield _text(theme, (24, middle + 4), queue, font="mono")
        yield f'<path d="M{TIME_START} {middle}H{TIME_END}" stroke="{theme.line}" stroke-dasharray="2 4"/>'
    for bar in BARS:
        yield from _bar(theme, bar)
    yield from _death(theme)


def _bar(theme: Theme, bar: Bar) -> Iterator[str]:
    top = LANES_TOP + bar.lane * LANE_HEIGHT
    yield _box(theme, (bar.start, top, bar.end - bar.start, 24), fill=theme.work, dashed=bar.is_killed)
    yield _text(theme, (bar.start + 7, top + 16), bar.label, font="mono")


def _death(theme: Theme) -> Iterator[str]:
    top = LANES_TOP + 2 * LANE_HEIGHT
    for commit in COMMITS:
        yield f'<circle cx="{commit}" cy="{top + 24}" r="3.5" fill="{theme.done}"/>'
    cross = f"M{KILLED_AT - 6} {top + 6}l12 12m0 -12l-12 12"
    yield f'<path d="{cross}" stroke="{theme.lost}" stroke-width="3" stroke-linecap="round"/>'
    last, low = COMMITS[-1], top + 46
    curve = f"M{last} {top + 28}C{last + 10} {low} {RESUMED_AT - 30} {low} {RESUMED_AT} {top + 28}"
    yield f'<path d="{curve}" fill="none" stroke="{theme.done}" stroke-width="1.5"/>'
    yield f'<path d="M{RESUMED_AT - 8} {top + 29}l8 -2l-3 8" fill="none" stroke="{theme.done}" stroke-width="1.5"/>'
    yield _text(theme, (KILLED_AT + 8, top - 6), "worker killed", colour=theme.lost, anchor="middle")
    yield _text(theme, (RESUMED_AT + 10, top + 40), "attempt 2 goes on at the last commit", colour=theme.done)
    bottom = LANES_TOP + len(QUEUES) * LANE_HEIGHT
    yield f'<circle cx="{TIME_START + 4}" cy="{bottom + 8}" r="3.5" fill="{theme.done}"/>'
    yield _text(theme, (TIME_START + 14, bottom + 12), "commit: flushed, superblock flipped, flushed, read back")


def _box(theme: Theme, place: tuple[int, int, int, int], *, fill: str = "", dashed: bool = False) -> str:
    left, top, width, height = place
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="5"'
        f' fill="{fill or theme.box}" stroke="{theme.line}"{dash}/>'
    )


def _text(theme: Theme, place: tuple[int, int], words: str, **style: str) -> str:
    """Return one line of text; ``style`` may say colour, anchor, and ``font`` as title or mono."""
    font = style.get("font", "")
    look = {
        "title": 'font-size="15" font-weight="600"',
        "mono": 'font-size="10" font-family="ui-monospace, SFMono-Regular, Menlo, monospace"',
    }.get(font, 'font-size="12"')
    colour = style.get("colour") or (theme.ink if font else theme.faint)
    anchor = style.get("anchor", "start")
    place_and_look = f'x="{place[0]}" y="{place[1]}" fill="{colour}" text-anchor="{anchor}" {look}'
    return f"<text {place_and_look}>{escape(words)}</text>"


def _arrow(theme: Theme, start: int, end: int, height: int = 107) -> str:
    path = f"M{start} {height}H{end}m-6 -4l6 4l-6 4"
    return f'<path d="{path}" fill="none" stroke="{theme.faint}" stroke-width="1.5"/>'


def file_name(theme: Theme) -> str:
    """Return the name of a theme's picture inside `FOLDER`."""
    return f"overview-{theme.name}.svg"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for chosen in THEMES:
        (FOLDER / file_name(chosen)).write_text(picture(chosen), "utf-8")
