"""Spans, metrics and log lines of a process of ours, seen from outside.

A process has one runtime and one set of providers, so each case is a process of its own.
"""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from temporalio.runtime import Runtime
from typing_extensions import override

from holdfast.errors import ConfigurationInvalid
from workers.devserver import DevServerAddress
from workers.loopback import free_ports
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings

ROOT = Path(__file__).resolve().parents[2]

TRACED = """
import asyncio, json, logging, sys
from holdfast import measures
from tests.workers.test_temporal import QUEUE, SECRET, Gossip, TellSecret, Told, serving, tell
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings

logging.basicConfig(stream=sys.stderr)
logging.getLogger("temporalio.core").setLevel(logging.DEBUG)

async def main(address, namespace, **exporting):
    telemetry = start_telemetry(TelemetrySettings(sdk_log_level="DEBUG", **exporting))
    client = await connect(TemporalSettings(address=address, namespace=namespace))
    async with serving(client, Gossip()):
        handle = await tell(client, Told(secret=SECRET), "traced")
        await handle.result()
    measures.SESSIONS.record(1, kind="backup", job="nightly", outcome="success")
    telemetry.flush()
    telemetry.shutdown()
    print(json.dumps({"workflow": handle.id}))

asyncio.run(main(**json.loads(sys.argv[1])))
"""

SCRAPED = """
import sys, urllib.request
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings
telemetry = start_telemetry(TelemetrySettings(prometheus_address=sys.argv[1]))
telemetry.runtime.metric_meter.create_counter("holdfast_test").add(3)
print(urllib.request.urlopen(f"http://{sys.argv[1]}/metrics").read().decode())
"""

REFUSED = """
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http"] = None  # as without the extra
from holdfast.errors import ConfigurationInvalid, ToolMissing
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings
try:
    start_telemetry(TelemetrySettings(**{sys.argv[1]: sys.argv[2]}))
except (ConfigurationInvalid, ToolMissing) as error:
    print(error.code, error.message, error.hint)
"""


@pytest.fixture
def run(child_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program of ours and gives its two outputs."""

    def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            env=child_environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    return run_program


@pytest.mark.temporal
def test_a_session_leaves_one_trace_and_standard_output_stays_clean(
    run: Callable[..., subprocess.CompletedProcess[str]], dev_server: DevServerAddress
) -> None:
    arguments = {"address": dev_server.grpc, "namespace": dev_server.namespace}
    result = run(TRACED, json.dumps(arguments | {"exporter": "console"}))
    assert json.loads(result.stdout)["workflow"].startswith("traced/")
    assert "temporalio.core" in result.stderr
    names = re.findall(r'"name": "(\w+:[\w.]+)"', result.stderr)
    expected = {
        "StartWorkflow:TellSecret",
        "SignalWorkflow:hear",
        "RunWorkflow:TellSecret",
        "StartActivity:gossip.whisper",
        "RunActivity:gossip.whisper",
    }
    assert expected <= set(names)
    # A plugin applied twice would record each span twice; the activity ran twice.
    assert names.count("RunWorkflow:TellSecret") == 1
    assert names.count("RunActivity:gossip.whisper") == 2


@pytest.mark.temporal
def test_a_collector_receives_spans_and_the_figures_of_the_sdk(
    run: Callable[..., subprocess.CompletedProcess[str]], dev_server: DevServerAddress
) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever).start()
        arguments = {
            "address": dev_server.grpc,
            "namespace": dev_server.namespace,
            "exporter": "otlp",
            "otlp_endpoint": f"http://127.0.0.1:{collector.server_port}",
        }
        run(TRACED, json.dumps(arguments))
        collector.shutdown()
    assert any(p == "/v1/traces" and b"RunWorkflow:TellSecret" in body for p, body in received)
    assert any(p == "/v1/metrics" and b"temporal_request" in body for p, body in received)
    assert any(p == "/v1/metrics" and b"holdfast_sessions_total" in body for p, body in received)


def test_the_figures_of_the_sdk_can_be_scraped(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = run(SCRAPED, f"127.0.0.1:{free_ports(1)[0]}")
    assert re.search(r"^holdfast_test\{.*\} 3$", result.stdout, re.MULTILINE)


def test_an_address_that_cannot_be_bound_is_a_matter_of_configuration(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run(REFUSED, "prometheus_address", address)
    assert result.stdout.startswith(f"configuration-invalid metrics cannot be served at {address}")


def test_a_missing_exporter_is_named_with_its_remedy(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = run(REFUSED, "exporter", "otlp")
    assert result.stdout.startswith("tool-missing the OTLP exporter is not installed")
    assert "extra `otlp`" in result.stdout


def test_a_process_has_one_telemetry() -> None:
    first = start_telemetry()
    assert start_telemetry() is first
    assert start_telemetry(first.settings) is first
    assert Runtime.default() is first.runtime
    other = TelemetrySettings(service_name="another")
    with pytest.raises(ConfigurationInvalid, match="other settings"):
        start_telemetry(other)


def test_without_an_exporter_there_is_nothing_to_flush() -> None:
    telemetry = start_telemetry()
    assert not telemetry.has_tracing
    telemetry.flush()
