"""Sessions that an earlier version began go on with this one: every recorded history is replayed."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from workers.roles import WORKFLOWS
from workers.temporal import project_plugin

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))
# Anything below these would tell of the machine it was recorded on.
HOST_PATH = re.compile(rb"/(?:home|tmp|var/tmp|work|root|Users)/\w")


def history_in(path: Path, text: str | None = None) -> WorkflowHistory:
    document = json.loads(text if text is not None else path.read_text("utf-8"))
    started = document["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], document)


def replayer() -> Replayer:
    return Replayer(workflows=WORKFLOWS, plugins=[project_plugin()])


def payloads_of(value: Any) -> list[bytes]:
    """Return the content of every payload in a document."""
    if isinstance(value, list):
        return [data for inner in value for data in payloads_of(inner)]
    if not isinstance(value, dict):
        return []
    own = [base64.b64decode(value["data"])] if isinstance(value.get("data"), str) else []
    return own + [data for inner in value.values() for data in payloads_of(inner)]


def last_event(path: Path) -> str:
    kind: str = json.loads(path.read_text("utf-8"))["events"][-1]["eventType"]
    return kind


def test_every_workflow_has_a_history_of_every_end() -> None:
    ends = {(path.name.partition("-")[0], last_event(path)) for path in HISTORIES}
    wanted = {"COMPLETED", "FAILED", "CANCELED"}
    only = {
        "GrantSlots": {"COMPLETED"},  # nobody cancels it, and nothing makes it fail
        "HoldMachine": {"COMPLETED"},  # whoever holds a machine lets it go
        "MachineUpkeep": {"COMPLETED", "CANCELED"},  # what goes wrong is a note
        "ShareLimits": {"COMPLETED"},  # as that of slots
        "RetainPoints": {"COMPLETED", "CANCELED"},  # fails only when the catalog stays away
    }
    expected = {
        (kind.__name__, f"EVENT_TYPE_WORKFLOW_EXECUTION_{end}")
        for kind in WORKFLOWS
        for end in only.get(kind.__name__, wanted)
    }
    assert expected - ends == set()


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_recorded_session_replays(path: Path) -> None:
    await replayer().replay_workflow(history_in(path))


async def test_a_step_that_the_workflow_does_not_make_is_noticed() -> None:
    [path] = [path for path in HISTORIES if path.name == "MachineBackup-increment-web.json"]
    altered = path.read_text("utf-8").replace('"name": "snapshot.create"', '"name": "snapshot.remove"')
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(history_in(path, altered))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_history_tells_nothing_of_the_machine_it_was_recorded_on(path: Path) -> None:
    content = path.read_bytes()
    found = [data for data in (content, *payloads_of(json.loads(content))) if HOST_PATH.search(data)]
    assert found == []
