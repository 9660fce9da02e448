"""Records the histories of a session whose job has a method, into the folder that is named.

``python -m scripts.record_methods tests/histories``; a history that is there stays as it is.
"""

import asyncio
import sys
from pathlib import Path

from temporalio.client import Client

from holdfast.model.fulls import FullDays, MethodOptions
from holdfast.model.ids import JobName
from holdfast.model.retention import Method
from holdfast.model.session import Outcome
from scripts.history_recorder import Recorder
from scripts.record_histories import PROVIDER, PROXY, REPOSITORY, main, serving
from workers.cli.starts import Start, backup_start
from workers.config import Settings
from workers.run import ALL
from workflows.messages import BackupRequest, UpkeepOptions

_EVERY_DAY = FullDays(weekdays=tuple(range(7)))


async def record_methods(client: Client, settings: Settings, folder: Path) -> None:
    """Record a session that turns its increment round and then looks whether the full is loose."""
    recorder = Recorder(client, settings.home.parent, folder)
    async with serving(client, settings, ALL):
        await (await recorder.start(_backup(recorder, None))).result()
        wanted = UpkeepOptions(method=MethodOptions(method=Method.REVERSE, compact=_EVERY_DAY))
        await recorder.record("method", _backup(recorder, wanted), Outcome.SUCCESS)


def _backup(recorder: Recorder, upkeep: UpkeepOptions | None) -> Start:
    return backup_start(
        BackupRequest(
            job=JobName("nightly"),
            provider=PROVIDER,
            proxy=PROXY,
            repository=REPOSITORY,
            machines=("web",),
            session_id=recorder.session_id(),
            upkeep=upkeep,
        )
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), record_methods))
