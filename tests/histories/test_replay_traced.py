"""Recorded sessions, all begun without traces, go on in workers that trace: spans are no part of what is replayed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.histories.test_replay import HISTORIES

ROOT = Path(__file__).resolve().parents[2]

# A process has one tracer provider, so this is a process of its own.
REPLAY = """
import asyncio
import os
import sys
from temporalio.worker import Replayer
from pathlib import Path
from tests.histories.test_replay import history_in
from workers.roles import WORKFLOWS
from workers.telemetry import start_telemetry
from workers.telemetry_settings import TelemetrySettings
from workers.temporal import project_plugin

async def main():
    replayer = Replayer(workflows=WORKFLOWS, plugins=[project_plugin(has_tracing=True)])
    for path in map(Path, sys.argv[1:]):
        await replayer.replay_workflow(history_in(path))
        print(path.stem)

telemetry = start_telemetry(TelemetrySettings(exporter="console"))
asyncio.run(main())
telemetry.shutdown()
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)  # as the program itself ends: the farewell of the interpreter races with threads of the SDK
"""


@pytest.mark.timeout(400)
def test_recorded_sessions_replay_with_traces(child_environment: dict[str, str], seed: int) -> None:
    # A third of them, another one with each seed: what tracing could break is the same in all.
    paths = HISTORIES[seed % 3 :: 3]
    result = subprocess.run(
        [sys.executable, "-c", REPLAY, *map(str, paths)],
        cwd=ROOT,
        env=child_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split() == [path.stem for path in paths]
    assert '"name": "RunActivity' not in result.stderr
