"""Records the histories of chains that change their place or owner, into the folder that is named.

``python -m scripts.record_moving tests/histories``; a history that is there stays as it is.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
from temporalio.client import Client

from holdfast.clock import SystemClock
from holdfast.model.ids import MachineId, RepositoryName
from holdfast.model.session import Outcome
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from scripts.history_recorder import Recorder
from scripts.record_histories import PROVIDER, PROXY, REPOSITORY, main, nightly, serving
from workers.cli.starts import Start, chains_start
from workers.config import Settings
from workers.repository_settings import RepositorySettings
from workers.run import ALL
from workflows.chain_messages import ChainTask, MoveRequest

_SECOND = RepositoryName("second")


async def record_moving(client: Client, settings: Settings, folder: Path) -> None:
    """Record a map, a rename, and moves that end well, are cancelled, and cannot be."""
    recorder, root = Recorder(client, settings.home.parent, folder), settings.home.parent
    second = RepositorySettings(name=_SECOND, path=root / "second")
    settings = msgspec.structs.replace(settings, repositories=(*settings.repositories, second))
    Repository.create(second.path, HostFiles(), "cd" * 16, SystemClock().now())
    repository = Repository.open(root / "repository", HostFiles())
    async with serving(client, settings, ALL):
        await (await recorder.start(nightly(recorder, "web"))).result()
        await recorder.record("map", _change(recorder, repository, ChainTask.MAP), Outcome.SUCCESS)
        await recorder.record("rename", _change(recorder, repository, ChainTask.RENAME), Outcome.SUCCESS)
        moving = _change(recorder, repository, ChainTask.MOVE)
        await recorder.record_cancelled("cancelled", moving, "moving.move_chain", "verbatim.flushed")
        await recorder.record("success", _change(recorder, repository, ChainTask.MOVE), Outcome.SUCCESS)
        nothing = _change(recorder, repository, ChainTask.MOVE)
        await recorder.record("nothing-there", nothing, Outcome.FAILED)


def _change(recorder: Recorder, repository: Repository, task: ChainTask) -> Start:
    [machine_folder] = repository.machine_folders()
    points = [found.point.machine for found in repository.points()]
    is_moved = task is ChainTask.MOVE
    return chains_start(
        MoveRequest(
            task=task,
            repository=REPOSITORY,
            folder=machine_folder.name,
            machine_id=MachineId(points[0].machine_id if points else "gone"),
            machine_name=points[0].name if points else "gone",
            new_id=MachineId("db") if task is ChainTask.MAP else MachineId(""),
            new_name="front" if task is ChainTask.RENAME else "",
            to=_SECOND if is_moved else RepositoryName(""),
            provider=PROVIDER,
            proxy=PROXY,
            session_id=recorder.session_id(),
        )
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), record_moving))
