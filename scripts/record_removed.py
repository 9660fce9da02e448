"""Records the histories of removed files that are taken back and deleted by hand, into the folder that is named.

``python -m scripts.record_removed tests/histories``; a history that is there stays as it is.
"""

import asyncio
import sys
from pathlib import Path

from temporalio.client import Client

from holdfast.clock import SystemClock
from holdfast.model.ids import JobName, MachineId
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.methods.upkeep import ChainUpkeep
from scripts.history_recorder import Recorder
from scripts.record_histories import REPOSITORY, main, nightly, serving
from workers.cli.starts import upkeep_start
from workers.config import Settings
from workers.run import ALL
from workflows.messages import ByHand, MachineUpkeepRequest, UpkeepOptions


async def record_removed(client: Client, settings: Settings, folder: Path) -> None:
    """Take back what was removed, and delete it for good when it was removed again."""
    recorder = Recorder(client, settings.home.parent, folder)
    async with serving(client, settings, ALL):
        for _ in range(2):
            await (await recorder.start(nightly(recorder, "web"))).result()
        for state, what in (("taken-back", ByHand.TAKING_BACK), ("purged", ByHand.PURGE)):
            start = upkeep_start(_by_hand(recorder, _remove_newest(settings), what))
            await recorder.start(start)
            await recorder.record_last(state, start.workflow_id)


def _remove_newest(settings: Settings) -> str:
    """Remove the newest file of the only chain, and return the chain."""
    repository = Repository.open(settings.repositories[0].path, HostFiles())
    [folder] = repository.chain_folders()
    newest = max(path.name for path in folder.glob("*.hfc"))
    ChainUpkeep(repository.files, folder, None).remove([newest], SystemClock().now())
    return repository.relative(folder)


def _by_hand(recorder: Recorder, chain: str, what: ByHand) -> MachineUpkeepRequest:
    return MachineUpkeepRequest(
        session_id=recorder.session_id(),
        job=JobName("by hand"),
        repository=REPOSITORY,
        machine_id=MachineId(""),
        machine_name=chain.split("/")[1],
        upkeep=UpkeepOptions(),
        by_hand=what,
        chain=chain,
        lock_days=7,
    )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), record_removed))
