"""What the sections of a run share: the folders, the images, and the figures collected so far."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Measured, Series
from tests.bench.reference import Reference

MIB = 1 << 20


class Ledger:
    """Collects figures by section and name, in the order in which they first came."""

    def __init__(self, work: Path, reference: Reference, runs: int) -> None:
        self.work = work
        self.reference = reference
        self.runs = runs
        self._values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._goals: dict[tuple[str, str, str], float] = {}

    def add(self, section: str, name: str, value: float, unit: str, goal: float | None = None) -> None:
        """Note one figure of one run."""
        self._values[section, name, unit].append(value)
        if goal is not None:
            self._goals[section, name, unit] = goal

    def add_run(self, section: str, who: str, measured: Measured, stored_bytes: int | None = None) -> None:
        """Note the figures of one process."""
        self.add(section, f"{who}: wall", measured.wall_s, "s")
        self.add(section, f"{who}: processor", measured.cpu_s, "s")
        self.add(section, f"{who}: peak memory", measured.peak_mib, "MiB")
        if stored_bytes is not None:
            self.add(section, f"{who}: stored", stored_bytes / MIB, "MiB")

    def series(self) -> list[Series]:
        """Return everything noted so far."""
        return [
            Series(section=key[0], name=key[1], unit=key[2], values=tuple(values), goal=self._goals.get(key))
            for key, values in self._values.items()
        ]


def markdown(series: Sequence[Series]) -> str:
    """Return the figures as one table per section."""
    lines: list[str] = []
    section = ""
    for one in series:
        if one.section != section:
            section = one.section
            lines += ["", f"### {section}", "", "| Figure | Median | Min - max | Goal | |", "|---|---|---|---|---|"]
        spread = f"{_number(min(one.values))} - {_number(max(one.values))}" if len(one.values) > 1 else ""
        goal = "" if one.goal is None else f"<= {_number(one.goal)}"
        verdict = "" if one.goal is None else ("reached" if one.is_reached else "missed")
        lines.append(f"| {one.name} | {_number(one.median)} {one.unit} | {spread} | {goal} | {verdict} |")
    return "\n".join(lines[1:]) + "\n"


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
