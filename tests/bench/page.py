"""What a run writes into docs/performance.md: goals, machine, figures. The rest of that page is written by hand."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.bench.ledger import MIB, markdown
from tests.bench.measure import Series, number
from tests.bench.reference import Reference

BEGIN = "<!-- written by `make bench`: begin -->\n"
END = "<!-- written by `make bench`: end -->\n"
AGAIN = "measured once more, by themselves"
"""The fact that names parts whose figures are of a run of their own."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run found."""

    date: str
    facts: dict[str, str]
    image: Reference
    series: list[Series]

    @property
    def goals_missed(self) -> list[str]:
        """Return the figures above their goals."""
        return [f"{one.section}: {one.name}" for one in self.series if not one.is_reached]


def rendered(report: Report) -> str:
    """Return goals, machine and figures as Markdown."""
    image = report.image
    facts = report.facts | {
        "image": f"{image.size_bytes / MIB:.0f} MiB virtual, {image.data_bytes / MIB:.0f} MiB of data, "
        f"{image.system_files} system files of {image.system_bytes / MIB:.0f} MiB"
    }
    lines = [
        "",
        f"## Goals and what was reached on {report.date}",
        "",
        "| Goal | Limit | Median, or the worst where each counts | |",
        "|---|---|---|---|",
    ]
    for one in report.series:
        if one.wanted:
            verdict = "reached" if one.is_reached else "**missed**"
            name = f"{one.section} - {one.name}"
            lines.append(f"| {name} | {one.wanted} {one.unit} | {number(one.judged)} {one.unit} | {verdict} |")
    lines += ["", "## Figures", "", "| Machine | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(lines) + "\n\n" + markdown(report.series) + "\n"


def completed(report: Report, earlier: Report, parts: Sequence[str]) -> Report:
    """Return an earlier report with the sections of a later one, which took ``parts``, in the place of its own.

    Raises `ValueError` when they are not of one machine, image and set of libraries: such figures say nothing together.
    """
    varying = {"load before and after", AGAIN}
    there, here = ({k: v for k, v in one.facts.items() if k not in varying} for one in (earlier, report))
    if there != here or earlier.image != report.image:
        raise ValueError(f"the earlier figures are of another machine or image: {earlier.facts}, not {report.facts}")
    again = {one.section for one in report.series}
    kept = [one for one in earlier.series if one.section not in again]
    order = {section: at for at, section in enumerate(dict.fromkeys(one.section for one in earlier.series))}
    series = sorted([*kept, *report.series], key=lambda one: order.get(one.section, len(order)))
    before = [earlier.facts[AGAIN]] if AGAIN in earlier.facts else []
    facts = earlier.facts | {AGAIN: "; ".join([*before, f"{', '.join(parts)}, on {report.date}"])}
    return Report(date=earlier.date, facts=facts, image=report.image, series=series)


def write_into(page: Path, report: Report) -> None:
    """Put a report between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + rendered(report) + END + after, encoding="utf-8")
