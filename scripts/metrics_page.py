"""Write the table of docs/operating/metrics.md from holdfast/measures.py.

Usage: .venv/bin/python -m scripts.metrics_page

Everything outside of the marked part is kept as it is.
"""

from pathlib import Path

from holdfast.measures import ALL, Kind, Measure

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operating" / "metrics.md"
BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->\n"
HEAD = "| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n"


def page(text: str) -> str:
    """Return a page with the table as the code has it."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + HEAD + "".join(map(row, ALL)) + END + after


def row(measure: Measure) -> str:
    """Return the line of one metric."""
    labels = ", ".join(f"`{label}`" for label in measure.labels)
    bounds = ""
    if measure.kind is Kind.HISTOGRAM:
        bounds = f" Buckets from {measure.buckets[0]:g} to {measure.buckets[-1]:g} {measure.unit}."
    return f"| `{measure.name}` | {measure.kind}, {measure.unit} | {labels} | {measure.meaning}{bounds} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
