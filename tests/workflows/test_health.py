"""The health of a repository: read, marked, repaired, and what is lost is named."""

from datetime import timedelta

import msgspec
import pytest

from activities.boundary import error_from_failure
from holdfast.errors import DataDamaged, RepositoryUnavailable
from holdfast.model.health import ClosedChain, RepairReport, ScrubReport
from holdfast.model.ids import CredentialName, DiskKey, RepositoryName, SessionId
from holdfast.model.points import ChainRead, Damage, Health, PointHealth, VerifyReport
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import NOON, World
from workflows.failures import result_in
from workflows.health import CheckHealth, added, closed_notes, not_read_words, repair_words
from workflows.messages import HealthRequest, HealthTask, SessionProgress, SessionResult

pytestmark = pytest.mark.temporal
GIB = 1 << 30
DAMAGE = Damage(
    chain="machines/web/1",
    point=2,
    machine="web",
    disk=DiskKey("disk0"),
    offset=65536,
    length=65536,
    file="00000001-full.hfc",
    reason="does not match its digest",
)
MARK = PointHealth(chain="machines/web/1", number=2, point_id="ab" * 16, machine="web", state=Health.DAMAGED)


def a_request(stage: Stage, task: HealthTask, **changes: object) -> HealthRequest:
    request = HealthRequest(repository=stage.repository, task=task, session_id=SessionId(f"s-{stage.proxy}"))
    return msgspec.structs.replace(request, **changes)


def a_scrub(done: int, planned: int, **changes: object) -> ScrubReport:
    report = ScrubReport(
        planned_bytes=planned, done_bytes=done, checked_bytes=done - 1, stored_bytes=90 * GIB, chains=1, oldest=NOON
    )
    return msgspec.structs.replace(report, **changes)


async def test_a_scrub_goes_on_slice_by_slice_until_its_share_is_read(stage: Stage) -> None:
    world = World()
    first = (ChainRead(chain="machines/a/1", stored_bytes=GIB), ChainRead(chain="machines/b/1", stored_bytes=GIB))
    last = (ChainRead(chain="machines/b/1", stored_bytes=GIB, damages=1),)
    slices = iter([a_scrub(2 * GIB, 3 * GIB, read=first), a_scrub(GIB, GIB, read=last)])
    world.answers["health.scrub"] = lambda _: next(slices)
    async with stage.playing(world):
        handle = await stage.start(CheckHealth.run, a_request(stage, HealthTask.SCRUB, days=7, every_s=3600))
        result: SessionResult = await handle.result()
        progress: SessionProgress = await handle.query(CheckHealth.progress)
        told = await details(handle)
    assert result.session.outcome is Outcome.SUCCESS
    assert result.scrub is not None
    assert (result.scrub.done_bytes, result.scrub.planned_bytes) == (3 * GIB, 3 * GIB)
    assert [request.left_bytes for request in world.requests("health.scrub")] == [None, GIB]
    assert {(one.days, one.every_s) for one in world.requests("health.scrub")} == {(7, 3600)}
    assert world.names() == ["health.scrub", "health.scrub"]
    assert "3 GiB of 3 GiB planned" in told
    assert f"**scrub of {stage.repository}** · success" in told
    assert told.replace("\u00a0", " ").partition("### Chains")[2].splitlines()[4:] == [
        "| b/1 |  |   2 GiB |   1 damaged place |",
        "| a/1 |  |   1 GiB |   as it was written |",
    ]
    assert progress.phase == "success"
    assert [queue for name, queue in world.queues if name == "health.scrub"] == [
        f"repository.{stage.repository}.upkeep"
    ] * 2


async def test_a_scrub_whose_history_grew_long_goes_on_as_new(stage: Stage) -> None:
    world = World()
    request = a_request(stage, HealthTask.SCRUB, scrubbed=a_scrub(2 * GIB, 3 * GIB, points=(MARK,)))
    world.answers["health.scrub"] = lambda _: a_scrub(GIB, GIB)
    async with stage.playing(world):
        result = await stage.run(CheckHealth.run, request)
    assert [one.left_bytes for one in world.requests("health.scrub")] == [GIB]
    assert result.scrub is not None
    assert result.scrub.done_bytes == 3 * GIB


async def test_what_a_scrub_finds_is_marked_and_repaired(stage: Stage) -> None:
    world = World()
    world.answers["health.scrub"] = lambda _: a_scrub(GIB, GIB, damages=(DAMAGE,), points=(MARK,))
    good = msgspec.structs.replace(MARK, state=Health.USABLE)
    world.answers["health.repair"] = lambda _: RepairReport(
        chains=1, repaired_pieces=2, from_chain=1, from_copies=1, points=(good,)
    )
    request = a_request(
        stage, HealthTask.SCRUB, credentials=(CredentialName("key"),), copies=(RepositoryName("other"),)
    )
    async with stage.playing(world):
        result = await stage.run(CheckHealth.run, request)
    assert result.session.outcome is Outcome.SUCCESS
    assert result.repair is not None
    assert result.repair.repaired_pieces == 2
    (repair,) = world.requests("health.repair")
    assert (repair.chain, repair.credentials, repair.copies) == (None, ("key",), ("other",))
    marked = [request.points for request in world.requests("catalog.record_health")]
    assert marked == [(MARK,), (good,)]


def a_closed_chain(number: int, due: int = GIB) -> ClosedChain:
    return ClosedChain(chain=f"machines/db/{number}", code="passphrase-wrong", reason="encrypted", due_bytes=due)


async def test_a_closed_chain_ends_a_scrub_with_a_warning_that_names_it(stage: Stage) -> None:
    world = World()
    world.answers["health.scrub"] = lambda _: a_scrub(GIB, GIB, closed=(a_closed_chain(1),))
    async with stage.playing(world):
        handle = await stage.start(CheckHealth.run, a_request(stage, HealthTask.SCRUB))
        result: SessionResult = await handle.result()
        told = await details(handle)
    assert result.session.outcome is Outcome.WARNING
    assert result.session.notes == ("not read: machines/db/1, 1 GiB due: passphrase-wrong: encrypted",)
    assert "1 GiB due, of 1 closed chain" in told
    assert world.names() == ["health.scrub"]


def test_many_closed_chains_are_counted() -> None:
    report = a_scrub(0, 0, closed=tuple(a_closed_chain(number) for number in range(22)), unnamed_closed=3)
    assert closed_notes(report)[-1] == "not read: 5 more chains that could not be opened"
    assert not_read_words(report) == "more than 22 GiB due, of 25 closed chains"
    assert closed_notes(a_scrub(0, 0)) == []


async def test_what_cannot_be_repaired_fails_the_session_and_is_named(stage: Stage) -> None:
    world = World()
    world.answers["health.scrub"] = lambda _: a_scrub(GIB, GIB, damages=(DAMAGE,), points=(MARK,))
    world.answers["health.repair"] = lambda _: RepairReport(chains=1, damages=(DAMAGE,), unnamed_damages=2)
    async with stage.playing(world):
        failure = await stage.failure(CheckHealth.run, a_request(stage, HealthTask.SCRUB))
    error = error_from_failure(failure)
    assert isinstance(error, DataDamaged)
    assert "3 damaged places" in error.message
    result = result_in(failure, SessionResult)
    assert result is not None
    assert "point 2 of web, disk disk0 at 65536 (65536 bytes)" in result.session.notes[0]


async def test_without_repairs_nothing_is_repaired(stage: Stage) -> None:
    world = World()
    world.answers["health.scrub"] = lambda _: a_scrub(GIB, GIB, damages=(DAMAGE,))
    async with stage.playing(world):
        await stage.failure(CheckHealth.run, a_request(stage, HealthTask.SCRUB, repairs=False))
    assert world.count("health.repair") == 0


async def test_a_check_reads_the_newest_points(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        result = await stage.run(CheckHealth.run, a_request(stage, HealthTask.CHECK, machine="web"))
    (request,) = world.requests("repository.verify")
    assert (request.newest, request.machine, request.is_new_only) == (True, "web", False)
    assert result.report == VerifyReport(points=1, units=1, stored_bytes=1)


async def test_a_repair_alone_reads_nothing(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        result = await stage.run(CheckHealth.run, a_request(stage, HealthTask.REPAIR))
    assert world.names() == ["health.repair"]
    assert result.repair == RepairReport(chains=1)


async def test_a_repository_that_is_away_fails_the_session(stage: Stage) -> None:
    world = World()
    world.fail("health.scrub", RepositoryUnavailable("/mnt is not mounted"))
    async with stage.playing(world):
        handle = await stage.client.start_workflow(
            CheckHealth.run,
            a_request(stage, HealthTask.SCRUB),
            id=f"health/{stage.repository}",
            task_queue="control",
            execution_timeout=timedelta(days=30),
        )
        await world.until(lambda: world.count("health.scrub") > 1)
        await handle.cancel()


def test_figures_of_slices_add_up() -> None:
    first = a_scrub(2 * GIB, 3 * GIB, overdue_bytes=5)
    assert added(None, first) is first
    total = added(first, a_scrub(GIB, GIB, overdue_bytes=0, damages=(DAMAGE,)))
    assert (total.done_bytes, total.planned_bytes, total.overdue_bytes) == (3 * GIB, 3 * GIB, 0)
    assert total.damages == (DAMAGE,)


def test_a_repair_in_words() -> None:
    words = dict(repair_words(RepairReport(repaired_pieces=16, from_chain=15, from_chains=1, metadata=("c",))))
    assert words == {
        "Repaired": "1 MiB: 15 pieces from the chain, 1 piece from other chains",
        "Metadata written anew": "c",
    }
    assert repair_words(RepairReport()) == []
