"""The ``[telemetry]`` table of the configuration."""

from typing import Literal

import msgspec


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[telemetry]`` table of the configuration."""

    exporter: Literal["off", "console", "otlp"] = "off"
    """Where spans and metrics go; ``console`` is standard error."""
    otlp_endpoint: str = "http://127.0.0.1:4318"
    """Address of the collector, without ``/v1/...``; speaks OTLP over HTTP."""
    prometheus_address: str | None = None
    """``host:port`` to serve metrics at to Prometheus, ours and those of Temporal's SDK, under ``/metrics`` and without
    a password, so best on the loopback; each worker process of a host needs its own. None: not served."""
    service_name: str = "holdfast"
    sdk_log_level: Literal["ERROR", "WARN", "INFO", "DEBUG"] = "WARN"
    """Least severe line of the SDK's native part that reaches our log."""
