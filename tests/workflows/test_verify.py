"""A verification: success means that everything was read, and damage is named."""

import pytest

from activities.boundary import error_from_failure
from holdfast.errors import DataDamaged, PassphraseWrong
from holdfast.model.ids import CredentialName, DiskKey
from holdfast.model.points import ChainRead, Damage, VerifyReport
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World
from workflows.failures import result_in
from workflows.messages import SessionProgress, SessionResult
from workflows.verify import VerifyRepository

pytestmark = pytest.mark.temporal


def a_damage(number: int) -> Damage:
    return Damage(
        chain="c1",
        point=number,
        machine="web",
        disk=DiskKey("disk0"),
        offset=65536 * number,
        length=65536,
        file="00000001-full.hfc",
        reason="does not match its digest",
    )


async def test_good_points_are_a_success_with_a_report(stage: Stage) -> None:
    world = World()
    read = (ChainRead(chain="machines/web/c2", points=4, stored_bytes=99),)
    report = VerifyReport(chains=2, points=5, units=9, stored_bytes=123, read=read)
    world.answers["repository.verify"] = lambda _: report
    async with stage.playing(world):
        handle = await stage.start(VerifyRepository.run, stage.verify())
        result: SessionResult = await handle.result()
        progress: SessionProgress = await handle.query(VerifyRepository.progress)
        text = (await details(handle)).replace("\u00a0", " ")
    assert f"**verification of {stage.repository}, all points** · success" in text
    assert "5 points of 2 chains, 123 B stored" in text
    assert "| web/c2 |   4 |   99 B |   as it was written |" in text
    assert result.report == report
    assert result.session.outcome is Outcome.SUCCESS
    assert progress.phase == "success"
    assert world.names() == ["repository.verify"]


async def test_one_point_is_found_first(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        await stage.run(VerifyRepository.run, stage.verify(point="latest", machine="web"))
    (request,) = world.requests("repository.verify")
    assert (request.numbers, request.chain) == ((1,), "machines/web-00000000/000001-00000000")


async def test_the_points_of_one_machine_are_chosen_by_the_repository(stage: Stage) -> None:
    world = World()
    async with stage.playing(world):
        await stage.run(VerifyRepository.run, stage.verify(machine="web"))
    (request,) = world.requests("repository.verify")
    assert (request.machine, request.chain, request.numbers) == ("web", None, ())


async def test_damage_fails_the_session_and_the_report_is_kept(stage: Stage) -> None:
    world = World()
    report = VerifyReport(points=30, damages=tuple(a_damage(n) for n in range(1, 31)), unnamed_damages=12)
    world.answers["repository.verify"] = lambda _: report
    async with stage.playing(world):
        failure = await stage.failure(VerifyRepository.run, stage.verify())
    error = error_from_failure(failure)
    assert isinstance(error, DataDamaged)
    assert "42 damaged places" in error.message
    result = result_in(failure, SessionResult)
    assert result is not None
    assert result.report == report
    assert len(result.session.notes) == 20
    assert "point 1 of web, disk disk0 at 65536 (65536 bytes)" in result.session.notes[0]


async def test_a_wrong_passphrase_fails_the_session(stage: Stage) -> None:
    world = World()
    world.fail("repository.verify", PassphraseWrong("chain c1 does not open"))
    async with stage.playing(world):
        failure = await stage.failure(VerifyRepository.run, stage.verify())
    assert isinstance(error_from_failure(failure), PassphraseWrong)


async def test_the_credentials_of_a_repository_go_with_every_step(stage: Stage) -> None:
    world = World()
    names = (CredentialName("a"), CredentialName("b"))
    async with stage.playing(world):
        await stage.run(VerifyRepository.run, stage.verify(credentials=names))
        await stage.run(VerifyRepository.run, stage.verify(point="latest", credentials=names))
    (found,) = world.requests("repository.find_point")
    assert [one.credentials for one in (found, *world.requests("repository.verify"))] == [names] * 3
