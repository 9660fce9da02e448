"""A job of as many machines as the limits allow: its session begins and ends."""

import pytest

from activities.boundary import error_from_failure
from activities.contracts import extents
from holdfast.errors import RepositoryFull
from holdfast.model.extents import ExtentFacts
from tests.workflows.conftest import Stage
from tests.workflows.stubs import World, a_machine
from workflows.backup_job import BackupJob

pytestmark = pytest.mark.temporal


@pytest.mark.timeout(450)  # two hundred records, one after the other: a starved host takes a second for each
async def test_a_job_of_a_thousand_machines_begins(stage: Stage) -> None:
    world = World([a_machine(f"m{number}", disks=2) for number in range(1000)])

    full = ExtentFacts(name=stage.repository, reachable=True, free_bytes=0)
    world.answers["extents.gather_facts"] = lambda _: extents.ExtentFactsFound(extents=(full,))
    async with stage.playing(world):
        failure = await stage.failure(BackupJob.run, stage.backup())
    assert isinstance(error_from_failure(failure), RepositoryFull)
