"""Shows a running session: bars on a terminal, a line now and then elsewhere, nothing when nobody reads along.

All of it goes to standard error; standard output is for results.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from holdfast.clock import Clock
from workers.cli import wording
from workers.cli.invocation import Invocation
from workers.cli.sights import DiskSight, Sight, Step
from workers.cli.tables import plain_table, put

LINE_INTERVAL_S = 5.0
"""How often a disk gets a line where there is no terminal."""
ROWS_MAX = 24
"""How many disks a terminal shows; the busy ones come first."""

_REFRESHES_PER_S = 4
_BAR_WIDTH = 24
_STATE_ORDER = {"transferring": 0, "snapshot": 1, "waiting": 2}


class Display(Protocol):
    """Where looks at a session are shown."""

    def __enter__(self) -> Self:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and leave the last state readable."""
        ...

    def update(self, sight: Sight) -> None:
        """Show how the session stands now."""
        ...

    def tell(self, text: str) -> None:
        """Show a sentence that stays."""
        ...


def display_for(run: Invocation) -> Display:
    """Return what suits the terminal and the flags."""
    if not run.is_talkative:
        return SilentDisplay(run)
    return LiveDisplay(run.err) if run.err.is_terminal else LineDisplay(run.err, run.clock)


class _Plain:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""


class SilentDisplay(_Plain):
    """Shows no progress; what has to be known is still told."""

    def __init__(self, run: Invocation) -> None:
        self._run = run

    def update(self, sight: Sight) -> None:
        """Show nothing."""

    def tell(self, text: str) -> None:
        """Tell it as a warning."""
        self._run.warn(text)


class LineDisplay(_Plain):
    """Prints one line for each disk every few seconds, and one for each change of state."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._told: dict[str, str] = {}
        self._next_s: dict[str, float] = {}

    def update(self, sight: Sight) -> None:
        """Print what is new."""
        if sight.phase:
            self._changed("phase", sight.phase, f"phase: {sight.phase}")
        for disk in sight.disks:
            self._disk(disk)
        if sight.verified is not None:
            self._paced("verify", _verify_line(sight))
        if sight.retained:
            self._paced("retain", _retain_line(sight))
        for step in sight.steps:
            if step.is_waiting or step.problem:
                self._paced(f"{step.workflow_id} {step.name}", _step_line(step))
        for note in sight.notes:
            self._changed(f"note {note}", note, f"note: {note}")

    def tell(self, text: str) -> None:
        """Print a line."""
        put(self._console, text)

    def _disk(self, disk: DiskSight) -> None:
        key = f"{disk.machine}/{disk.disk}"
        if disk.state != "transferring" or disk.problem:
            self._changed(f"state {key}", f"{disk.state} {disk.problem}", f"{key}: {disk.state}{_why(disk)}")
        if disk.state == "transferring":
            self._paced(key, f"{key}: {', '.join(_figures(disk))}")

    def _changed(self, key: str, value: str, line: str) -> None:
        if self._told.get(key) != value:
            self._told[key] = value
            self.tell(line)

    def _paced(self, key: str, line: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._next_s.get(key, now_s):
            self._next_s[key] = now_s + LINE_INTERVAL_S
            self._changed(key, line, line)


class LiveDisplay:
    """Draws a table with a bar for each disk, again and again in the same place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=_REFRESHES_PER_S, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def update(self, sight: Sight) -> None:
        """Draw the newest state."""
        self._live.update(drawing(sight))

    def tell(self, text: str) -> None:
        """Print a line above the drawing."""
        put(self._live.console, text)


def drawing(sight: Sight) -> RenderableType:
    """Return what a terminal shows of a session."""
    parts: list[RenderableType] = []
    if sight.phase:
        parts.append(Text(sight.phase, style="bold"))
    if sight.disks:
        parts.append(_disk_table(sight.disks))
    if sight.verified is not None:
        parts.append(Text(_verify_line(sight)))
    if sight.retained:
        parts.append(Text(_retain_line(sight)))
    parts += [Text(_step_line(step), style="dim") for step in sight.steps if step.is_waiting or step.problem]
    parts += [Text(f"note: {note}", style="yellow") for note in sight.notes]
    return Group(*parts)


def _disk_table(disks: tuple[DiskSight, ...]) -> Table:
    table = plain_table("DISK", "", ">", ">OF", ">RATE", ">LEFT", "")
    ordered = sorted(disks, key=lambda disk: _STATE_ORDER.get(disk.state, len(_STATE_ORDER)))
    for disk in ordered[:ROWS_MAX]:
        is_moving = disk.state == "transferring" and disk.rate_bytes_s > 0
        table.add_row(
            f"{disk.machine}/{disk.disk}",
            ProgressBar(total=max(1, disk.size_bytes), completed=disk.reached_bytes, width=_BAR_WIDTH),
            wording.share(disk.reached_bytes, disk.size_bytes),
            wording.size(disk.size_bytes),
            wording.rate(disk.rate_bytes_s) if is_moving else "",
            wording.duration(disk.remaining_s) if is_moving and disk.remaining_s is not None else "",
            "; ".join(_remarks(disk)),
        )
    if len(ordered) > ROWS_MAX:
        table.add_row(Text(f"and {wording.count(len(ordered) - ROWS_MAX, 'disk')} more", "dim"))
    return table


def _remarks(disk: DiskSight) -> Iterator[str]:
    if disk.state != "transferring":
        yield disk.state + _why(disk)
        return
    if disk.busy_shares:
        yield _stages(disk)
    if disk.attempt > 1:
        yield _attempt(disk)
    if disk.problem:
        yield disk.problem


def _figures(disk: DiskSight) -> Iterator[str]:
    reached, whole = wording.size(disk.reached_bytes), wording.size(disk.size_bytes)
    yield f"{wording.share(disk.reached_bytes, disk.size_bytes)}, {reached} of {whole}"
    if disk.rate_bytes_s > 0:
        yield wording.rate(disk.rate_bytes_s)
    if disk.remaining_s is not None:
        yield f"{wording.duration(disk.remaining_s)} left"
    if disk.busy_shares:
        yield _stages(disk)
    if disk.attempt > 1:
        yield _attempt(disk)


def _stages(disk: DiskSight) -> str:
    """Return how busy each stage is, in the order of the pipe, and which is the bottleneck."""
    stages = " > ".join(f"{name} {100 * part:.0f} %" for name, part in disk.busy_shares.items())
    return f"busy: {stages}, bottleneck: {disk.bottleneck}"


def _attempt(disk: DiskSight) -> str:
    resumed = "" if disk.resumed_bytes is None else f", resumed at {wording.size(disk.resumed_bytes)}"
    return f"attempt {disk.attempt}{resumed}"


def _why(disk: DiskSight) -> str:
    reason = disk.problem or disk.detail
    return f" ({reason})" if reason else ""


def _verify_line(sight: Sight) -> str:
    cursor = sight.verified
    assert cursor is not None, "asked for only when there is one"
    damaged = len(cursor.partial.damages) + cursor.partial.unnamed_damages
    found = f", {wording.count(damaged, 'damaged span')} so far" if damaged else ""
    return (
        f"verified {cursor.chains_done} of {wording.count(cursor.chains, 'chain')}, "
        f"{wording.size(cursor.checked_bytes)} read{found}"
    )


def _retain_line(sight: Sight) -> str:
    done, files = (sum(getattr(cursor, name) for cursor in sight.retained) for name in ("files_done", "files"))
    moved = sum(cursor.moved_bytes for cursor in sight.retained)
    chains = wording.count(len(sight.retained), "chain")
    return f"retention of {chains}: {done} of {wording.count(files, 'file')}, {wording.size(moved)} moved"


def _step_line(step: Step) -> str:
    if step.problem:
        return f"{step.name}: attempt {step.attempt}, the last one ended with: {step.problem}"
    return f"{step.name}: waiting for a worker"
