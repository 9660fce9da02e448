"""Where the figures of `holdfast.measures` go: to the endpoint of Temporal's SDK, and to OpenTelemetry.

The SDK serves its own metrics to Prometheus from native code. Ours go through it, so a worker has one endpoint, and
needs no second server and no further package for it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from opentelemetry.metrics import Meter, MeterProvider
from temporalio.common import MetricAttributes, MetricCounter, MetricMeter

from holdfast import measures
from holdfast.measures import Kind, Measure

_Take: TypeAlias = Callable[[float, dict[str, str]], None]


class SdkRecorder:
    """Gives figures to the runtime of Temporal's SDK, which exports them as it does its own."""

    def __init__(self, meter: MetricMeter) -> None:
        self._takes = {measure.name: _sdk_take(meter, measure) for measure in measures.ALL}

    def record(self, measure: Measure, value: float, labels: dict[str, str]) -> None:
        """Add a value to a counter or a histogram, or set a gauge."""
        self._takes[measure.name](value, labels)


class OtelRecorder:
    """Gives figures to a meter provider of OpenTelemetry."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("holdfast")
        self._takes = {measure.name: _otel_take(meter, measure) for measure in measures.ALL}

    def record(self, measure: Measure, value: float, labels: dict[str, str]) -> None:
        """Add a value to a counter or a histogram, or set a gauge."""
        self._takes[measure.name](value, labels)


def buckets() -> Mapping[str, Sequence[float]]:
    """Return the buckets of our histograms, as the SDK wants to be told of them."""
    return {measure.name: measure.buckets for measure in measures.ALL if measure.kind is Kind.HISTOGRAM}


class _Whole:
    """A counter that knows integers only, and keeps what is left of a fraction for the next time."""

    def __init__(self, counter: MetricCounter) -> None:
        self._counter = counter
        self._lock = threading.Lock()
        self._rest: dict[tuple[str, ...], float] = {}

    def add(self, value: float, labels: dict[str, str]) -> None:
        series = tuple(labels.values())
        with self._lock:
            total = self._rest.get(series, 0.0) + value
            whole = int(total)
            self._rest[series] = total - whole
        self._counter.add(whole, _attributes(labels))


def _sdk_take(meter: MetricMeter, measure: Measure) -> _Take:
    name, meaning = measure.name, measure.meaning
    match measure.kind:
        case Kind.COUNTER:
            return _Whole(meter.create_counter(name, meaning)).add
        case Kind.HISTOGRAM:
            histogram = meter.create_histogram_float(name, meaning)
            return lambda value, labels: histogram.record(value, _attributes(labels))
        case Kind.GAUGE:
            gauge = meter.create_gauge_float(name, meaning)
            return lambda value, labels: gauge.set(value, _attributes(labels))


def _attributes(labels: dict[str, str]) -> MetricAttributes:
    return {**labels}


def _otel_take(meter: Meter, measure: Measure) -> _Take:
    told = measure.name, measure.unit, measure.meaning
    match measure.kind:
        case Kind.COUNTER:
            return meter.create_counter(*told).add
        case Kind.HISTOGRAM:
            return meter.create_histogram(*told, explicit_bucket_boundaries_advisory=measure.buckets).record
        case Kind.GAUGE:
            return meter.create_gauge(*told).set
