"""Figures go to whoever takes them, and to nobody otherwise; every metric is named, bounded and documented."""

from collections.abc import Iterator

import pytest

from holdfast import measures
from holdfast.measures import ALL, Kind, Measure
from scripts import metrics_page

UNBOUNDED = {"machine", "disk", "session", "point", "chain", "host", "snapshot"}


class Taken:
    """Remembers every figure."""

    def __init__(self) -> None:
        self.figures: list[tuple[str, float, dict[str, str]]] = []

    def record(self, measure: Measure, value: float, labels: dict[str, str]) -> None:
        self.figures.append((measure.name, value, labels))

    def of(self, measure: Measure, **labels: str) -> list[float]:
        """Return the values of the series that have these labels."""
        return [value for name, value, told in self.figures if name == measure.name and labels.items() <= told.items()]


@pytest.fixture
def taken() -> Iterator[Taken]:
    found = Taken()
    measures.record_with(found)
    yield found
    measures.record_with()


def test_without_a_recorder_nothing_happens() -> None:
    assert not measures.is_recording()
    measures.COMMITS.record(1.0, repository="main")


def test_every_recorder_gets_every_figure() -> None:
    first, second = Taken(), Taken()
    measures.record_with(first, second)
    assert measures.is_recording()
    measures.COMMITS.record(0.5, repository="main")
    measures.record_with()
    measures.COMMITS.record(0.5, repository="main")
    expected = [("holdfast_commit_duration_seconds", 0.5, {"repository": "main"})]
    assert first.figures == second.figures == expected


def test_a_label_that_is_missing_is_a_defect(taken: Taken) -> None:
    with pytest.raises(AssertionError, match="has the labels"):
        measures.TASKS.record(1, kind="backup")
    assert taken.figures == []


@pytest.mark.parametrize("measure", ALL, ids=lambda measure: measure.name)
def test_names_follow_the_rules_of_prometheus(measure: Measure) -> None:
    assert measure.name.startswith("holdfast_")
    assert measure.name.endswith("_total") == (measure.kind is Kind.COUNTER)
    assert measure.name.removesuffix("_total").endswith("_second") == (measure.unit == "By/s")
    assert ("_seconds" in measure.name) == (measure.unit == "s")
    assert ("_bytes" in measure.name) == (measure.unit in {"By", "By/s"})
    assert measure.meaning.endswith(".")
    assert bool(measure.buckets) == (measure.kind is Kind.HISTOGRAM)
    assert list(measure.buckets) == sorted(set(measure.buckets))


@pytest.mark.parametrize("measure", ALL, ids=lambda measure: measure.name)
def test_labels_are_bounded(measure: Measure) -> None:
    assert not UNBOUNDED & set(measure.labels)


def test_all_lists_every_metric_once() -> None:
    found = [value for value in vars(measures).values() if isinstance(value, Measure)]
    assert sorted(ALL, key=lambda measure: measure.name) == sorted(found, key=lambda measure: measure.name)
    assert len({measure.name for measure in ALL}) == len(ALL)


def test_the_page_lists_what_the_code_has() -> None:
    text = metrics_page.PAGE.read_text("utf-8")
    assert metrics_page.page(text) == text, "run scripts/metrics_page.py"
