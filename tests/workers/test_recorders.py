"""Our figures reach both meters: that of Temporal's SDK, which counts in integers, and that of OpenTelemetry."""

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from holdfast import measures
from holdfast.measures import Kind
from workers.loopback import free_ports
from workers.recorders import OtelRecorder, SdkRecorder, buckets
from workers.telemetry import start_telemetry

ROOT = Path(__file__).resolve().parents[2]

# A process has one runtime, so this is a process of its own.
SCRAPED = """
import sys, urllib.request
from holdfast import measures
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings
start_telemetry(TelemetrySettings(prometheus_address=sys.argv[1], service_name="here"))
for measure in measures.ALL:
    for value in (0.7, 0.7, 2.0):
        measure.record(value, **{label: "x" for label in measure.labels})
measures.BUSY.record(0.7, kind="x", repository="x", stage="y")
print(urllib.request.urlopen(f"http://{sys.argv[1]}/metrics").read().decode())
"""


def test_opentelemetry_gets_every_metric_with_unit_meaning_and_buckets() -> None:
    reader = InMemoryMetricReader()
    recorder = OtelRecorder(MeterProvider(metric_readers=[reader]))
    for measure in measures.ALL:
        recorder.record(measure, 0.7, dict.fromkeys(measure.labels, "x"))
    data = reader.get_metrics_data()
    assert data is not None
    [scope] = data.resource_metrics[0].scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    assert set(found) == {measure.name for measure in measures.ALL}
    for measure in measures.ALL:
        metric = found[measure.name]
        assert (metric.unit, metric.description) == (measure.unit, measure.meaning)
        [point] = metric.data.data_points
        assert set(point.attributes or {}) == set(measure.labels)
        assert getattr(point, "explicit_bounds", ()) == measure.buckets


def test_prometheus_gets_every_metric_from_the_endpoint_of_the_sdk(child_environment: dict[str, str]) -> None:
    page = subprocess.run(
        [sys.executable, "-c", SCRAPED, f"127.0.0.1:{free_ports(1)[0]}"],
        cwd=ROOT,
        env=child_environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    for measure in measures.ALL:
        assert f"# TYPE {measure.name} {measure.kind}" in page
        if measure.kind is Kind.HISTOGRAM:
            assert f'le="{measure.buckets[-1]:g}"' in page
    series = 'holdfast_stage_busy_seconds_total{kind="x",repository="x",stage="x",service_name="here"} 3\n'
    assert series in page, "0.7 + 0.7 + 2.0, whose fraction waits for the next time"
    assert 'stage="y",service_name="here"} 0\n' in page, "each series has a fraction of its own"
    assert 'holdfast_commit_duration_seconds_sum{repository="x",service_name="here"} 3.4\n' in page


def test_a_runtime_that_serves_nothing_takes_figures_all_the_same() -> None:
    recorder = SdkRecorder(start_telemetry().runtime.metric_meter)
    for measure in measures.ALL:
        recorder.record(measure, 1.5, dict.fromkeys(measure.labels, "x"))


@pytest.mark.parametrize("measure", measures.ALL, ids=lambda measure: measure.name)
def test_histograms_have_buckets_of_their_own(measure: measures.Measure) -> None:
    assert buckets().get(measure.name, ()) == measure.buckets
