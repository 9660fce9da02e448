"""What a job's method wants of a machine's chain once its point is there, as steps of its upkeep.

Guarantee: each may be ended and repeated at any moment, and every point can be read all the time.
"""

from collections.abc import Callable

from temporalio import workflow

from activities.contracts import catalog, chains, retention
from holdfast.model.retention import Method
from workflows import options, queues
from workflows.book import Book
from workflows.messages import ByHand, MachineUpkeepRequest
from workflows.report import size_text, summary
from workflows.steps import stop_if_cancelled
from workflows.undo import shielded


def wants_method(request: MachineUpkeepRequest) -> bool:
    """Return whether the method of the job may have something to do."""
    wanted = request.upkeep.method
    if request.by_hand is not None:
        return request.by_hand is ByHand.SYNTHETIC_FULL
    if wanted is None or request.point is None:
        return False
    return wanted.method is Method.REVERSE or wanted.fulls.synthetic is not None


def wants_compact(request: MachineUpkeepRequest) -> bool:
    """Return whether the job compacts fulls."""
    if request.by_hand is not None:
        return request.by_hand is ByHand.COMPACTION
    return request.upkeep.method is not None and request.upkeep.method.compact is not None


async def apply_method(request: MachineUpkeepRequest, book: Book) -> str:
    """Make the newest point a full where the method wants it; return in words what was done."""
    book.enter("making the newest point a full")
    return await _change(request, chains.apply_method, "the newest point a full, where its method wants it")


async def compact(request: MachineUpkeepRequest, book: Book) -> str:
    """Compact the full when it is due and loose; return in words what was done."""
    book.enter("compacting the full")
    return await _change(request, chains.compact, "its full written anew, where that is due")


def changed_words(changed: chains.ChainChanged) -> str:
    """Return in words what was done with a chain, how, and why."""
    if not changed.is_done:
        return f"nothing to do: {changed.reason}"
    parts = [changed.what]
    if changed.moved_bytes:
        how = "as shared blocks" if changed.shared_bytes else "copied"
        parts.append(f"{size_text(changed.moved_bytes)} moved {how}")
    if changed.displaced_bytes:
        parts.append(f"{size_text(changed.displaced_bytes)} displaced")
    if changed.freed_bytes:
        parts.append(f"{size_text(changed.freed_bytes)} freed")
    return f"{', '.join(parts)}; {changed.reason}"


async def _change(
    request: MachineUpkeepRequest, contract: Callable[[chains.ChangeChain], chains.ChainChanged], what: str
) -> str:
    wanted = request.upkeep.method
    assert wanted is not None, "asked for only with a method"
    changed = await workflow.execute_activity(
        contract,
        chains.ChangeChain(
            repository=request.repository,
            machine_id=request.machine_id,
            machine_name=request.machine_name,
            options=wanted,
            began=workflow.now() if request.began is None else request.began,
            is_asked_for=request.by_hand is not None,
            credential=request.credential,
        ),
        **options.verification(queues.chain_queue(request.repository), summary(f"{request.machine_name}: {what}")),
    )
    # Whatever was asked for meanwhile: the points are what they are now, and no later run tells the catalog.
    await shielded(_tell_catalog(request, changed))
    stop_if_cancelled()
    return changed_words(changed)


async def _tell_catalog(request: MachineUpkeepRequest, changed: chains.ChainChanged) -> None:
    if changed.point is not None:
        config = options.record(queues.CONTROL, summary(request.machine_name), options.RECORD_PATIENCE)
        entry = catalog.RecordPoint(
            repository=request.repository,
            session_id=request.session_id,
            point=changed.point,
            stored_bytes=changed.point.file_bytes,
            completed=workflow.now(),
        )
        await workflow.execute_activity(catalog.record_point, entry, **config)
    for moved in changed.moved:
        settled = retention.SettlePoints(repository=request.repository, moved=moved)
        config = options.record(queues.CONTROL, summary(request.machine_name), options.FINISH_PATIENCE)
        await workflow.execute_activity(retention.settle, settled, **config)
