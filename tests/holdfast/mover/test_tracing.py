"""A trace goes on at the other mover; without one, or with one that is nonsense, the work is done all the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.mover.tracing import continued, traceparent

ROOT = Path(__file__).resolve().parents[3]
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

# A process has one tracer provider, so this is a process of its own.
TRACED = """
import json
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from holdfast.mover.tracing import continued, traceparent

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
with trace.get_tracer("proxy").start_as_current_span("task"):
    told = traceparent()
assert traceparent() == ""
with continued("mover.write", told, **{"holdfast.repository": "main"}):
    inside = traceparent()
with continued("mover.read", ""):
    pass
with continued("mover.read", "nonsense"):
    pass
print(json.dumps([told, inside, [json.loads(span.to_json()) for span in spans.get_finished_spans()]]))
"""


@pytest.mark.parametrize("parent", ["", "nonsense", PARENT])
def test_without_a_collector_the_work_is_done(parent: str) -> None:
    done = []
    with continued("mover.write", parent):
        done.append(traceparent())
    assert len(done) == 1
    assert traceparent() == ""


def test_an_error_comes_out() -> None:
    with pytest.raises(ValueError, match="bad"), continued("mover.write", PARENT):
        raise ValueError("bad")


def test_what_the_other_side_does_is_a_child_of_what_this_side_does(child_environment: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", TRACED],
        cwd=ROOT,
        env=child_environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    told, inside, spans = json.loads(result.stdout)
    task, served = spans
    assert [task["name"], served["name"]] == ["task", "mover.write"]
    assert task["context"]["trace_id"] == served["context"]["trace_id"] == f"0x{told.split('-')[1]}"
    assert served["parent_id"] == task["context"]["span_id"]
    assert served["attributes"] == {"holdfast.repository": "main"}
    assert inside.split("-")[2] == served["context"]["span_id"].removeprefix("0x")
