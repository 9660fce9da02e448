"""Records the histories of a quick backup into a job, into the folder that is named.

``python -m scripts.record_quick_backup tests/histories``; a history that is there stays as it is.
"""

import asyncio
import sys
from pathlib import Path

import msgspec
from temporalio.client import Client

from holdfast.model.ids import JobName
from holdfast.model.retention import QuickBackup
from holdfast.model.session import Outcome
from scripts.history_recorder import Recorder
from scripts.record_histories import PROVIDER, PROXY, REPOSITORY, main, serving
from workers.cli.starts import backup_start, quick_start
from workers.config import Settings
from workers.run import ALL
from workflows.messages import BackupOptions, BackupRequest

_REQUEST = BackupRequest(
    job=JobName("nightly"), provider=PROVIDER, proxy=PROXY, repository=REPOSITORY, machines=("web",)
)


async def record_quick_backup(client: Client, settings: Settings, folder: Path) -> None:
    """Record a session that asks who began earlier and goes behind what the job has."""
    recorder = Recorder(client, settings.home.parent, folder)
    async with serving(client, settings, ALL):
        full = msgspec.structs.replace(_REQUEST, session_id=recorder.session_id())
        await (await recorder.start(backup_start(full))).result()
        quick = BackupOptions(quick=QuickBackup(timezone="Europe/Zurich", lock_days=1))
        request = msgspec.structs.replace(_REQUEST, session_id=recorder.session_id(), options=quick)
        await recorder.record("quick", quick_start(request), Outcome.SUCCESS)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), record_quick_backup))
