"""Taking turns with other sessions of a job: who began earlier goes on, the other waits until it has ended."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import chain, repeat

from temporalio import workflow

from activities.contracts import sessions
from workflows import options, queues
from workflows.book import Book
from workflows.report import summary
from workflows.steps import step, stop_if_cancelled

_PAUSES_S = (5, 10, 20, 40)
_PAUSE_S = 60
"""Between looks at a session that takes long; one of a night leaves some thousand events, which a history bears."""


async def wait_for_earlier(workflow_ids: Sequence[str], book: Book) -> None:
    """Return when none of these workflows runs that began before this one.

    Of two that began at the same moment that with the lesser id goes first, so that they never wait for each other.
    """
    if not workflow_ids:
        return
    info = workflow.info()
    # Not `start_time`, the time of the first task: two that waited for a worker would both seem to be the later one.
    ask = sessions.EarlierSessions(
        workflow_ids=tuple(workflow_ids), started=info.workflow_start_time, workflow_id=info.workflow_id
    )
    for pause_s in chain(_PAUSES_S, repeat(_PAUSE_S)):
        config = options.lookup(queues.CONTROL, summary(f"does {', '.join(workflow_ids)} run"))
        running = (await step(sessions.find_earlier, ask, config)).workflow_ids
        if not running:
            return
        book.enter(f"waiting for another session of the job: {', '.join(running)}")
        await workflow.sleep(timedelta(seconds=pause_s), summary="until the other session has ended")
        stop_if_cancelled()
