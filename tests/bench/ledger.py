"""What the parts of a run share: the work folder, the image, and the figures collected so far."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Measured, Series, number
from tests.bench.reference import Reference

MIB = 1 << 20


class Ledger:
    """Collects figures by section and name, in the order in which they first came."""

    def __init__(self, work: Path, reference: Reference, runs: int) -> None:
        self.work = work
        self.reference = reference
        self.runs = runs
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._units: dict[tuple[str, str], str] = {}
        self._goals: dict[tuple[str, str], float] = {}
        self._floors: dict[tuple[str, str], float] = {}
        self._bounds: dict[tuple[str, str], float] = {}

    def add(self, section: str, name: str, value: float, unit: str) -> None:
        """Note one figure of one run."""
        self._values[section, name].append(value)
        self._units[section, name] = unit

    def add_run(self, section: str, who: str, measured: Measured, stored_bytes: int | None = None) -> None:
        """Note the figures of one process."""
        print(f"  {section}, {who}: {measured.wall_s:.1f} s, processor {measured.cpu_s:.1f} s", flush=True)
        self.add(section, f"{who}: wall", measured.wall_s, "s")
        self.add(section, f"{who}: processor", measured.cpu_s, "s")
        self.add(section, f"{who}: peak memory", measured.peak_mib, "MiB")
        if stored_bytes is not None:
            self.add(section, f"{who}: stored", stored_bytes / MIB, "MiB")

    def set_goal(self, section: str, name: str, limit: float) -> None:
        """Say what the median of a figure should not exceed."""
        self._goals[section, name] = limit

    def set_floor(self, section: str, name: str, least: float) -> None:
        """Say what the median of a figure should reach."""
        self._floors[section, name] = least

    def set_bound(self, section: str, name: str, most: float) -> None:
        """Say what no run may exceed: what shall hold always is not shown by a median."""
        self._bounds[section, name] = most

    def series(self) -> list[Series]:
        """Return everything noted so far, section by section."""
        order = {section: at for at, section in reversed(list(enumerate(key[0] for key in self._values)))}
        keys = sorted(self._values, key=lambda key: order[key[0]])
        return [
            Series(
                section=key[0],
                name=key[1],
                unit=self._units[key],
                values=tuple(self._values[key]),
                goal=self._goals.get(key),
                floor=self._floors.get(key),
                bound=self._bounds.get(key),
            )
            for key in keys
        ]


def markdown(series: Sequence[Series]) -> str:
    """Return the figures as one table per section."""
    lines: list[str] = []
    section = ""
    for one in series:
        if one.section != section:
            section = one.section
            lines += ["", f"### {section}", "", "| Figure | Median | Min - max | Goal | |", "|---|---|---|---|---|"]
        spread = f"{number(min(one.values))} - {number(max(one.values))}" if len(one.values) > 1 else ""
        verdict = one.wanted and ("reached" if one.is_reached else "**missed**")
        lines.append(f"| {one.name} | {number(one.median)} {one.unit} | {spread} | {one.wanted} | {verdict} |")
    return "\n".join(lines[1:]) + "\n"
