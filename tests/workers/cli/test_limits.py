"""Who is under a limit, and has how much of it, can be looked at."""

import asyncio

import msgspec
import pytest
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from holdfast.clock import SystemClock
from holdfast.errors import ServerUnavailable
from holdfast.model.limit_shares import LimitsState, Report, Want
from tests.workers.cli.place import Place
from workers.cli.temporal_checks import check_temporal
from workers.temporal import connect
from workflows import queues
from workflows.limits import KEEPER_ID, ShareLimits

RULE = "throttling rule office"


async def reported(place: Place, sequence: int, count: int) -> None:
    client = await connect(place.settings.temporal)
    wants = (Want(limits=(RULE,), count=count),) if count else ()
    report = Report(
        process="one", label="repository vault at host (7)", sequence=sequence, limits={RULE: 8 << 20}, wants=wants
    )
    begin = WithStartWorkflowOperation(
        ShareLimits.run,
        LimitsState(),
        id=KEEPER_ID,
        task_queue=queues.CONTROL,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    await client.execute_update_with_start_workflow(ShareLimits.report, report, start_workflow_operation=begin)


def test_without_a_server_nothing_is_known(place: Place) -> None:
    assert place.run("limits").exit_code == ServerUnavailable.exit_status


@pytest.mark.temporal
def test_processes_are_listed_with_their_shares(lab: Place) -> None:
    assert lab.json("limits") == {"members": []}
    asyncio.run(reported(lab, 1, 3))
    document = lab.json("limits")
    told = lab.run("limits").stdout
    findings = asyncio.run(check_temporal(lab.settings, SystemClock()))
    asyncio.run(reported(lab, 2, 0))
    [member] = msgspec.convert(document, LimitsState).members
    assert (member.report.label, member.holds) == ("repository vault at host (7)", {RULE: 8 << 20})
    for words in (RULE, "repository vault at host (7)", "3", "8.0 MiB/s"):
        assert words in told, told
    [share] = [finding for finding in findings if finding.check == f"share of {RULE}"]
    assert share.text == "repository vault at host (7): 8.0 MiB/s"
    assert "no limit holds anybody back" in lab.run("limits").stdout
