"""What somebody asks for about files that were removed from a chain: back, or gone for good, as steps of upkeep."""

from datetime import timedelta

from temporalio import workflow

from activities.contracts import retention
from holdfast.model.words import count_text
from workflows import options, queues
from workflows.book import Book
from workflows.messages import ByHand, MachineUpkeepRequest
from workflows.report import size_text, summary
from workflows.steps import step


def wants_taking_back(request: MachineUpkeepRequest) -> bool:
    """Return whether removed files are taken back."""
    return request.by_hand is ByHand.TAKING_BACK


def wants_purge(request: MachineUpkeepRequest) -> bool:
    """Return whether removed files are deleted before their time."""
    return request.by_hand is ByHand.PURGE


async def take_back(request: MachineUpkeepRequest, book: Book) -> str:
    """Bring back what was removed of the chain and lock its points; return in words what was done."""
    book.tell("Chain", request.chain)
    book.enter("taking back what was removed")
    until = workflow.now() + timedelta(days=request.lock_days)
    back = await step(
        retention.take_back,
        retention.TakeBack(
            repository=request.repository, chain=request.chain, until=until, credentials=request.credentials
        ),
        options.change(queues.chain_queue(request.repository), summary(f"{request.chain}, by hand")),
    )
    book.lay("Files", ("File", "State"), ((name, "back") for name in back.files))
    locked = f"locked until {until.isoformat(timespec='minutes')}"
    return f"{count_text(len(back.files), 'file')} of {request.chain} back, {locked}"


async def purge(request: MachineUpkeepRequest, book: Book) -> str:
    """Delete what was removed of the chain for good; return in words what was done."""
    book.tell("Chain", request.chain)
    book.enter("deleting what was removed")
    purged = await step(
        retention.purge,
        retention.PurgeRemoved(
            repository=request.repository,
            machine_id=request.machine_id,
            machine_name=request.machine_name,
            grace_days=0,
            chain=request.chain,
        ),
        options.change(queues.chain_queue(request.repository), summary(f"{request.chain}, by hand")),
    )
    return f"{count_text(purged.files, 'file')} of {request.chain} deleted, {size_text(purged.freed_bytes)} freed"
