"""The part of a session that looks after chains: a workflow for each machine, and what the session says of them all."""

from collections.abc import Awaitable, Iterable, Sequence
from functools import partial

import msgspec
from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ParentClosePolicy

from activities.contracts import retention
from holdfast.model.ids import CredentialName, MachineId
from holdfast.model.owners import ChainOwner
from holdfast.model.points import PointSummary
from holdfast.model.retention import RetentionOptions
from holdfast.model.session import SessionKind
from holdfast.model.words import count_text
from workflows import options, queues, search_attributes
from workflows.children import run_child
from workflows.failures import problem_of
from workflows.machine_upkeep import MachineUpkeep
from workflows.messages import MachineUpkeepRequest, MachineUpkeepResult, Retained, UpkeepOptions
from workflows.report import summary
from workflows.retention_step import retained_words
from workflows.session import SessionRun
from workflows.steps import in_lanes, step, stop_if_cancelled

AT_ONCE = 4
"""Machines looked after at once by a session; how many chains are changed at once is up to the repository's worker."""


class SessionUpkeep:
    """Looks after the chains of machines for one session. What goes wrong is a note of it: the points are there."""

    def __init__(self, run: SessionRun, wanted: UpkeepOptions, credential: CredentialName | None) -> None:
        self._run = run
        self._book = run.book
        self._wanted = wanted
        self._credential = credential
        self._retained = Retained()
        self._machines = 0
        self._rows: list[tuple[str, ...]] = []

    async def of_points(self, points: Iterable[PointSummary]) -> None:
        """Look after the machines that have just got these points."""
        await self.of_machines([self.request(point.machine_id, point.machine_name, point=point) for point in points])

    async def of_owner(self, owner: ChainOwner, points: Sequence[PointSummary], *, judges_gone: bool) -> None:
        """Look after the chain that the machines of these points share."""
        if not points:
            return
        gone = await self.gone_of_owner() if judges_gone else ()
        newest = max(points, key=lambda point: (point.chain, point.number))
        await self.of_machines([self.request_of_owner(owner, gone, point=newest)])

    async def gone_of_owner(self) -> tuple[MachineId, ...]:
        """Return the machines of a shared chain whose points need not stay, because the job does not try them."""
        rules = self._wanted.retention
        if rules is None or rules.gone_after_days is None:
            return ()
        gone = await self.find_machines(rules, only_gone=True)
        for one in gone:
            self._book.tell(f"Gone: {one.machine_name}", f"not tried since {one.last_tried}")
        return tuple(one.machine_id for one in gone)

    def request_of_owner(
        self, owner: ChainOwner, gone: tuple[MachineId, ...], *, point: PointSummary | None = None
    ) -> MachineUpkeepRequest:
        """Return the request for a chain that several machines share."""
        request = self.request(MachineId(owner.owner_id), owner.name, point=point)
        return msgspec.structs.replace(request, gone=gone)

    async def of_gone_machines(self) -> None:
        """Let the points of machines go that the job does not try any more, if it says after how many days."""
        rules = self._wanted.retention
        if rules is None or rules.gone_after_days is None:
            return
        gone = await self.find_machines(rules, only_gone=True)
        for one in gone:
            self._book.tell(f"Gone: {one.machine_name}", f"not tried since {one.last_tried}")
        await self.of_machines([self.request(one.machine_id, one.machine_name, is_gone=True) for one in gone])

    async def find_machines(self, rules: RetentionOptions, *, only_gone: bool) -> tuple[retention.JobMachine, ...]:
        """Return the machines of the job that have points, as the catalog knows them."""
        self._book.enter("looking for machines that have points")
        found = await step(
            retention.find_machines,
            retention.FindMachines(
                repository=self._run.repository,
                job=self._run.job,
                now=workflow.now(),
                timezone=rules.timezone,
                gone_after_days=rules.gone_after_days,
                only_gone=only_gone,
                only_archives=rules.only_archives,
            ),
            options.lookup(queues.CONTROL, summary(f"machines of {self._run.job}")),
        )
        return found.machines

    async def of_machines(self, requests: Sequence[MachineUpkeepRequest]) -> None:
        """Look after machines, several at once."""
        if not requests:
            return
        self._book.enter("looking after the chains")
        await in_lanes([partial(self._look_after, request) for request in requests], AT_ONCE)
        stop_if_cancelled()

    def request(  # noqa: PLR0913 - what a session may say of a machine
        self,
        machine_id: MachineId,
        machine_name: str,
        *,
        point: PointSummary | None = None,
        is_gone: bool = False,
        expected: str = "",
        has_consent: bool = False,
    ) -> MachineUpkeepRequest:
        """Return the request for a machine."""
        return MachineUpkeepRequest(
            session_id=self._run.session_id,
            job=self._run.job,
            repository=self._run.repository,
            machine_id=machine_id,
            machine_name=machine_name,
            upkeep=self._wanted,
            point=point,
            began=None if point is None else self._run.started,
            is_gone=is_gone,
            expected=expected,
            has_consent=has_consent,
            credential=self._credential,
        )

    async def _look_after(self, request: MachineUpkeepRequest) -> None:
        child_id = queues.machine_upkeep_id(request.repository, request.machine_id, request.machine_name)
        self._book.children.append(child_id)

        def start() -> Awaitable[MachineUpkeepResult]:
            return workflow.execute_child_workflow(
                MachineUpkeep.run,
                request,
                id=child_id,
                # What is under way ends at its next commit; the next session goes on there.
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                search_attributes=search_attributes.started(
                    search_attributes.Subject(
                        kind=SessionKind.RETENTION,
                        job=request.job,
                        machine=request.machine_name,
                        repository=request.repository,
                    )
                ),
                static_summary=summary(f"{request.machine_name}: upkeep of its chains in {request.repository}"),
            )

        try:
            self._take(await run_child(child_id, start, MachineUpkeepResult))
        except FailureError as failure:
            stop_if_cancelled()
            self._book.note([f"upkeep of {request.machine_name}: {problem_of(failure).message}"])

    def _take(self, result: MachineUpkeepResult) -> None:
        self._machines += 1
        self._retained += result.retained
        self._run.retained = self._retained
        self._book.note(result.notes)
        self._rows += [(result.machine_name, step, words) for step, words in result.lines]
        self._book.lay("Chains", ("Machine", "Step", "What was done"), self._rows)
        if self._wanted.retention is not None:
            self._book.tell(
                "Retention", f"{retained_words(self._retained)}, of {count_text(self._machines, 'machine')}"
            )
