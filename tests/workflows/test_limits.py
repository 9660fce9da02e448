"""The workflow that shares limits between processes: it answers, forgets the dead, hands on what it knows, and ends."""

import asyncio
import datetime as dt
import secrets

import pytest
from temporalio.client import WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from holdfast.model.limit_shares import LimitsState, Member, Report, Shares, Want
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World
from workflows import limits, queues
from workflows.limits import ShareLimits
from workflows.limits import details as details_of

pytestmark = pytest.mark.temporal

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
RULE = "throttling rule office"


def report(process: str, sequence: int = 1, *, count: int = 1, holds: float = 0.0) -> Report:
    return Report(
        process=process,
        label=f"repository vault at {process}",
        sequence=sequence,
        limits={RULE: 8.0} if count else {},
        wants=(Want(limits=(RULE,), count=count),) if count else (),
        holds={RULE: holds} if holds else {},
    )


class Keeper:
    """Talks to the workflow of one test."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._id = f"limits-{secrets.token_hex(4)}"

    @property
    def handle(self) -> WorkflowHandle[ShareLimits, LimitsState]:
        return self._stage.client.get_workflow_handle_for(ShareLimits.run, self._id)

    async def hears(self, said: Report) -> Shares:
        begin = WithStartWorkflowOperation(
            ShareLimits.run,
            LimitsState(),
            id=self._id,
            task_queue=queues.CONTROL,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        return await self._stage.client.execute_update_with_start_workflow(
            ShareLimits.report, said, start_workflow_operation=begin
        )

    async def tells(self, said: Report) -> float:
        return (await self.hears(said)).shares[RULE].rate_bytes_s


@pytest.fixture
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was not heard for a second is dead."""
    monkeypatch.setattr(limits, "LOOK", dt.timedelta(seconds=0.5))
    monkeypatch.setattr("holdfast.planning.limit_shares.LAPSE", dt.timedelta(seconds=1))


async def test_processes_share_a_limit_and_the_workflow_ends_when_nobody_is_under_it(dev_stage: Stage) -> None:
    keeper = Keeper(dev_stage)
    async with dev_stage.playing(World()):
        assert await keeper.tells(report("one", count=3)) == 8
        assert await keeper.tells(report("two")) == 0
        assert await keeper.tells(report("one", 2, count=3, holds=8)) == 6
        assert await keeper.tells(report("one", 3, count=3, holds=6)) == 6
        assert await keeper.tells(report("two", 2)) == 2
        text = await details(keeper.handle)
        assert (await keeper.hears(report("one", 4, count=0))).shares == {}
        assert await keeper.tells(report("two", 3, holds=2)) == 8
        await keeper.hears(report("two", 4, count=0, holds=8))
        assert await keeper.handle.result() == LimitsState()
    assert "repository\u00a0vault\u00a0at\u00a0one" in text


@pytest.mark.usefixtures("_watchful")
async def test_what_a_dead_process_held_is_for_the_others(dev_stage: Stage) -> None:
    keeper = Keeper(dev_stage)
    async with dev_stage.playing(World()):
        assert await keeper.tells(report("dead")) == 8
        sequence = 0
        async with asyncio.timeout(60):
            while await keeper.tells(report("alive", sequence := sequence + 1)) < 8:
                pass
        assert sequence > 1


async def test_a_report_that_came_too_late_changes_nothing(dev_stage: Stage) -> None:
    keeper = Keeper(dev_stage)
    async with dev_stage.playing(World()):
        await keeper.hears(report("one", 5))
        late = await keeper.hears(report("one", 4, count=0))
        assert late == Shares(is_settled=False)
        [member] = (await keeper.handle.query(ShareLimits.state)).members
        assert (member.report.sequence, member.holds) == (5, {RULE: 8.0})


async def test_what_an_earlier_run_knew_holds(dev_stage: Stage) -> None:
    keeper = Keeper(dev_stage)
    known = Member(report=report("one"), heard=NOON, holds={RULE: 8.0})
    async with dev_stage.playing(World()):
        await dev_stage.client.start_workflow(
            ShareLimits.run, LimitsState(members=(known,)), id=keeper._id, task_queue=queues.CONTROL
        )
        assert await keeper.tells(report("two")) == 0


def test_the_details_say_who_has_how_much_of_what() -> None:
    text = details_of([Member(report=report("one", count=3), heard=NOON, holds={RULE: 4.0})])
    for words in (RULE, "repository\u00a0vault\u00a0at\u00a0one", "3", "4\u00a0B/s", "8\u00a0B/s"):
        assert words in text, text
