"""Records the histories of a session that makes an archive, and of one that removes it, into the folder that is named.

``python -m scripts.record_archives tests/histories``; a history that is there stays as it is.
"""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

from temporalio.client import Client

from holdfast.model.archives import Archive
from holdfast.model.ids import JobName
from holdfast.model.session import Outcome
from scripts.history_recorder import Recorder
from scripts.record_histories import CREDENTIAL, PROVIDER, PROXY, REPOSITORY, main, serving
from workers.cli.starts import Start, archives_request_of, backup_start, retention_start
from workers.config import Settings
from workers.run import ALL
from workflows.messages import BackupOptions, BackupRequest

_PAST = datetime(2020, 1, 1, tzinfo=UTC)


async def record_archives(client: Client, settings: Settings, folder: Path) -> None:
    """Record a session that makes an archive which has expired already, and the one that removes it."""
    recorder = Recorder(client, settings.home.parent, folder)
    async with serving(client, settings, ALL):
        await recorder.record("archive", _archive(recorder), Outcome.SUCCESS)
        expire = retention_start(archives_request_of(REPOSITORY, recorder.session_id()))
        await recorder.record("archives", expire, Outcome.SUCCESS)


def _archive(recorder: Recorder) -> Start:
    wish = Archive(expires=_PAST, credential=CREDENTIAL)
    request = BackupRequest(
        job=JobName("archive"),
        provider=PROVIDER,
        proxy=PROXY,
        repository=REPOSITORY,
        machines=("web",),
        options=BackupOptions(full=True, verify=True, credential=CREDENTIAL, archive=wish),
        session_id=recorder.session_id(),
    )
    return backup_start(request, is_ad_hoc=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), record_archives))
