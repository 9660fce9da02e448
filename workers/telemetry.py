"""OpenTelemetry and the Temporal SDK's runtime of one process.

Traces and metrics go nowhere, to standard error, or to a collector over OTLP. The SDK's own
metrics, and those of `holdfast.measures`, can be scraped by Prometheus at one address. Log lines of
the SDK's native part are handed to Python's ``logging``: written by themselves they would land on
standard output, amid the JSON of a command.

A process has one runtime and one set of providers; `start_telemetry` builds them once and hands out
the same object.
"""

import importlib
import logging
import sys
import threading
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from temporalio.contrib.opentelemetry import (
    ReplaySafeMeterProvider,
    ReplaySafeTracerProvider,
    create_tracer_provider,
)
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    OpenTelemetryConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from holdfast.errors import ConfigurationInvalid, ToolMissing
from holdfast.measures import Recorder, record_with
from workers.recorders import OtelRecorder, SdkRecorder, buckets
from workers.telemetry_settings import TelemetrySettings

_OTLP = "opentelemetry.exporter.otlp.proto.http"


class Telemetry:
    """What `start_telemetry` built."""

    def __init__(
        self,
        settings: TelemetrySettings,
        runtime: Runtime,
        tracer: ReplaySafeTracerProvider | None,
        meter: MeterProvider | None,
    ) -> None:
        self.settings = settings
        self.runtime = runtime
        self._tracer = tracer
        self._meter = meter

    @property
    def has_tracing(self) -> bool:
        """Return whether spans are collected."""
        return self._tracer is not None

    def flush(self) -> None:
        """Hand over everything recorded so far; waits at most 30 seconds for a slow collector."""
        if self._tracer is not None:
            self._tracer.force_flush()
        if self._meter is not None:
            self._meter.force_flush()

    def shutdown(self) -> None:
        """Flush and stop the exporters. Call once, when the process ends."""
        if self._tracer is not None:
            self._tracer.shutdown()
        if self._meter is not None:
            self._meter.shutdown()


_lock = threading.Lock()
_started: list[Telemetry] = []


def start_telemetry(settings: TelemetrySettings | None = None) -> Telemetry:
    """Return the telemetry of this process, built from ``settings`` at the first call.

    None takes what there is, else the defaults. Raises ConfigurationInvalid when other settings are
    already in force or the Prometheus address cannot be bound, ToolMissing when the OTLP exporter
    is not installed.
    """
    with _lock:
        if not _started:
            _started.append(_build(settings or TelemetrySettings()))
        running = _started[0]
        if settings is not None and settings != running.settings:
            message = "telemetry of this process was started with other settings"
            raise ConfigurationInvalid(message)
        return running


def _build(settings: TelemetrySettings) -> Telemetry:
    exporters = _exporters(settings)
    runtime = _runtime(settings)
    recorders: list[Recorder] = []
    if settings.prometheus_address is not None:
        recorders.append(SdkRecorder(runtime.metric_meter))
    if exporters is None:
        record_with(*recorders)
        return Telemetry(settings, runtime, None, None)
    resource = Resource.create({SERVICE_NAME: settings.service_name})
    spans, figures = exporters
    tracer = create_tracer_provider(resource=resource, shutdown_on_exit=False)
    tracer.add_span_processor(BatchSpanProcessor(spans))
    reader = PeriodicExportingMetricReader(figures)
    meter = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
    trace.set_tracer_provider(tracer)
    metrics.set_meter_provider(ReplaySafeMeterProvider(meter))
    record_with(*recorders, OtelRecorder(meter))
    return Telemetry(settings, runtime, tracer, meter)


def _exporters(settings: TelemetrySettings) -> tuple[SpanExporter, MetricExporter] | None:
    match settings.exporter:
        case "off":
            return None
        case "console":
            return ConsoleSpanExporter(out=sys.stderr), ConsoleMetricExporter(out=sys.stderr)
        case "otlp":
            endpoint = settings.otlp_endpoint.rstrip("/")
            spans = _otlp_module("trace_exporter").OTLPSpanExporter(f"{endpoint}/v1/traces")
            figures = _otlp_module("metric_exporter").OTLPMetricExporter(f"{endpoint}/v1/metrics")
            return spans, figures


def _otlp_module(name: str) -> Any:  # noqa: ANN401 - the extra may be absent, so it has no type
    try:
        return importlib.import_module(f"{_OTLP}.{name}")
    except ImportError as error:
        message = f"the OTLP exporter is not installed: {error}"
        hint = "Install Holdfast with the extra `otlp`, or set telemetry.exporter to off."
        raise ToolMissing(message, hint=hint) from error


def _runtime(settings: TelemetrySettings) -> Runtime:
    level = settings.sdk_log_level
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    telemetry = TelemetryConfig(
        logging=LoggingConfig(filter=TelemetryFilter(core_level=level, other_level="ERROR"), forwarding=forwarding),
        metrics=_sdk_metrics(settings),
        attach_service_name=False,
        global_tags={"service_name": settings.service_name},
    )
    try:
        runtime = Runtime(telemetry=telemetry)
    except (RuntimeError, ValueError) as error:
        message = f"metrics cannot be served at {settings.prometheus_address}: {error}"
        raise ConfigurationInvalid(message) from error
    # Whatever asks the SDK for its default runtime gets this one, not a second one that logs to
    # standard output.
    Runtime.set_default(runtime, error_if_already_set=False)
    return runtime


def _sdk_metrics(settings: TelemetrySettings) -> PrometheusConfig | OpenTelemetryConfig | None:
    if settings.prometheus_address is not None:
        return PrometheusConfig(
            bind_address=settings.prometheus_address,
            durations_as_seconds=True,
            unit_suffix=True,
            histogram_bucket_overrides=buckets(),
        )
    if settings.exporter == "otlp":
        return OpenTelemetryConfig(
            url=f"{settings.otlp_endpoint.rstrip('/')}/v1/metrics",
            http=True,
            durations_as_seconds=True,
        )
    return None
