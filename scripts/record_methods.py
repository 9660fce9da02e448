"""Records the histories of a session whose job has a method, into the folder that is named.

``python -m scripts.record_methods tests/histories``; a history that is there stays as it is.
"""

import asyncio
import sys
from pathlib import Path

from temporalio.client import Client

from holdfast.model.fulls import FullDays, MethodOptions
from holdfast.model.retention import Method
from holdfast.model.session import Outcome
from scripts.history_recorder import Recorder
from scripts.record_histories import main, nightly, serving
from workers.config import Settings
from workers.run import ALL
from workflows.messages import UpkeepOptions

_EVERY_DAY = FullDays(weekdays=tuple(range(7)))


async def record_methods(client: Client, settings: Settings, folder: Path) -> None:
    """Record a session that turns its increment round and then looks whether the full is loose."""
    recorder = Recorder(client, settings.home.parent, folder)
    async with serving(client, settings, ALL):
        await (await recorder.start(nightly(recorder, "web"))).result()
        wanted = UpkeepOptions(method=MethodOptions(method=Method.REVERSE, compact=_EVERY_DAY))
        await recorder.record("method", nightly(recorder, "web", upkeep=wanted), Outcome.SUCCESS)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), record_methods))
