"""One machine: its files are kept beside its disks."""

import msgspec
import pytest

from activities.contracts.machine_files import KeptFile, MachineFilesCopied
from holdfast.model.machine_files import FileLeftOut
from holdfast.model.session import Outcome
from tests.workflows.conftest import Stage, details
from tests.workflows.stubs import World, a_machine
from tests.workflows.test_machine_backup import request_for, succeed
from workflows.machine_backup import MachineBackup

pytestmark = pytest.mark.temporal


async def test_files_of_the_machine_are_kept_right_after_the_point_was_begun(stage: Stage) -> None:
    """A file that could not be read is told of and makes no warning."""
    world = World([a_machine("web", disks=2)])
    usual = world.answers["repository.begin_point"]
    world.answers["repository.begin_point"] = lambda request: msgspec.structs.replace(usual(request), takes_files=True)
    world.answers["files.copy"] = lambda _: MachineFilesCopied(
        kept=(KeptFile(name="web.vmx", size_bytes=3000),),
        left_out=(FileLeftOut(name="web.nvram", reason="it is locked"),),
    )
    async with stage.playing(world):
        handle = await stage.start(MachineBackup.run, request_for(stage, world))
        result = await handle.result()
        text = await details(handle)
    assert world.names()[:4] == [
        "snapshot.create",
        "repository.begin_point",
        "files.copy",
        "transfer.copy_disk",
    ]
    [request] = world.requests("files.copy")
    assert (request.snapshot_id, request.point.number) == ("snapshot-web", 1)
    assert result.outcome is Outcome.SUCCESS
    assert "web.vmx (2.9 KiB), web.nvram left out: it is locked" in text


async def test_a_point_that_an_earlier_version_began_gets_no_files(stage: Stage) -> None:
    world = World()
    await succeed(stage, world)
    assert world.count("files.copy") == 0
