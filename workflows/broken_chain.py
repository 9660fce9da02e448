"""What a machine's backup does when its chain cannot be continued: fail, begin anew, or ask somebody first."""

from temporalio import workflow

from activities.contracts import repository
from holdfast.errors import ChainBroken
from holdfast.model.health import BrokenChain
from workflows import options
from workflows.book import Book
from workflows.messages import MachineBackupRequest
from workflows.report import summary
from workflows.steps import step, stop_if_cancelled

DECIDE = "decide"
"""Name of the signal that answers."""


class ChainQuestion:
    """The question of one machine, asked before its snapshot is taken so that nothing is held open meanwhile."""

    def __init__(self, request: MachineBackupRequest, book: Book, queue: str) -> None:
        self._request = request
        self._book = book
        self._queue = queue
        self._policy = request.options.on_broken_chain
        self._decision: BrokenChain | None = None

    @property
    def is_full_when_broken(self) -> bool:
        """Return whether a new chain is begun when the newest cannot be continued."""
        return BrokenChain.FULL in {self._policy, self._decision}

    def decide(self, decision: BrokenChain) -> None:
        """Take the answer; the first counts."""
        if self._decision is None and decision is not BrokenChain.ASK:
            self._decision = decision

    async def ask(self) -> None:
        """Look at the chain when the job asks, and wait for the answer. Raises `ChainBroken` when it is to fail."""
        request = self._request
        if self._policy is not BrokenChain.ASK or request.options.full:
            return
        self._book.enter("looking at the chain")
        seen = await step(
            repository.look_at_chain,
            repository.LookAtChain(
                repository=request.repository,
                machine_id=request.machine.machine_id,
                machine=request.machine.name,
                credential=request.options.credential,
                owner=request.options.owner,
            ),
            options.lookup(self._queue, summary(f"chain of {request.machine.name}")),
        )
        if not seen.problem:
            return
        self._book.enter("waiting for a decision about the damaged chain")
        self._book.tell("Chain", seen.problem)
        try:
            await workflow.wait_condition(lambda: self._decision is not None, timeout=options.DECISION_WAIT)
        except TimeoutError:
            self._book.tell("Decision", "nobody answered")
        stop_if_cancelled()
        if self._decision is not BrokenChain.FULL:
            raise ChainBroken(
                seen.problem,
                hint="Run `holdfast health repair`, or begin a new chain with `holdfast backup JOB --full`.",
            )
        self._book.note([f"a new chain is begun, as was decided: {seen.problem}"])
