"""The catalog's lines: nothing waits long for a catalog that is away, except the end of the session."""

from datetime import timedelta

import pytest

from holdfast.errors import CatalogUnavailable
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine
from workflows.backup_job import BackupJob
from workflows.options import FINISH_PATIENCE, RECORD_PATIENCE

pytestmark = pytest.mark.temporal


async def test_a_catalog_that_lets_us_down_once_is_not_waited_for_again(stage: Stage) -> None:
    world = World([a_machine("web", disks=4)])
    for name in ("catalog.begin_session", "catalog.record_task", "catalog.record_point"):
        world.fail(name, CatalogUnavailable("the catalog is locked"))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        result = await handle.result()
        description = await handle.describe()
    assert result.session.outcome is Outcome.WARNING
    assert {note.removeprefix("web: ") for note in result.session.notes} == {
        "the catalog does not know everything of this session: the catalog is locked"
    }
    assert description.close_time is not None
    assert description.close_time - description.start_time < 4 * RECORD_PATIENCE


async def test_the_end_of_a_session_waits_for_a_catalog_that_comes_back(stage: Stage) -> None:
    world = World()
    world.fail(
        "catalog.finish_session",
        CatalogUnavailable("the catalog is locked"),
        where=lambda _: world.count("catalog.finish_session") < 100,
    )
    async with stage.playing(world):
        result = await stage.run_backup()
    assert result.session.outcome is Outcome.SUCCESS
    assert world.sessions["s1"].outcome is Outcome.SUCCESS


async def test_a_session_ends_at_last_without_a_catalog(stage: Stage) -> None:
    world = World()
    world.fail("catalog.finish_session", CatalogUnavailable("the catalog is gone"))
    async with stage.playing(world):
        handle = await stage.start(BackupJob.run, stage.backup())
        await handle.result()
        description = await handle.describe()
    assert description.close_time is not None
    assert description.close_time - description.start_time < FINISH_PATIENCE + timedelta(minutes=5)
