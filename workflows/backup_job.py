"""One session of a backup job.

Guarantee: every machine that can be protected gets a restore point, whatever happens to the others, and the session
says of every machine how it ended.
"""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from functools import partial

from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ParentClosePolicy

from activities.contracts import extents, snapshot
from holdfast.errors import MachineNotFound, RepositoryUnavailable, SessionFailed
from holdfast.model.machine import Machine
from holdfast.model.placement import Inquiry
from holdfast.model.session import Outcome, Problem
from holdfast.model.words import count_text
from holdfast.planning.archives import kept_words
from holdfast.planning.extent_selection import choose_extent
from workflows import options, queues, search_attributes
from workflows.children import run_child
from workflows.failures import problem_of, result_in
from workflows.machine_backup import MachineBackup
from workflows.messages import (
    BackupRequest,
    MachineBackupRequest,
    MachineBackupResult,
    SessionProgress,
    SessionResult,
    UpkeepOptions,
)
from workflows.naming import labels, with_machine
from workflows.report import duration_text, size_text, summary
from workflows.session import SessionRun, outcome_of_failure
from workflows.session_upkeep import SessionUpkeep
from workflows.slots import find_proxies
from workflows.steps import in_lanes, step, stop_if_cancelled
from workflows.turns import wait_for_earlier

_PAUSES_S = (15, 30, 60, 120, 120, 120, 120, 120, 120)
"""Between looks at a repository whose folder is not there: a quarter of an hour for a mount to come back."""
_NAMED_MAX = 5


@workflow.defn(name="BackupJob")
class BackupJob:
    """Find the machines, protect each in a workflow of its own, sum up."""

    @workflow.init
    def __init__(self, request: BackupRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._run = SessionRun(
            request.options.kind, request.job, request.repository, request.session_id, request.provider
        )
        self._book = self._run.book
        self._are_all_known = True
        """Whether each machine that the job means was described."""
        self._failures: list[tuple[str, Problem, BaseException]] = []
        self._longest_open_s = 0.0
        self._verified: list[int] = []
        """Of the new points that were read back: their bytes."""
        self._labels = labels(())

    @workflow.query(name="progress", description="Where the machines and their disks stand")
    def progress(self) -> SessionProgress:
        """Return where the session stands; the workflows of its machines know more of each."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: BackupRequest) -> SessionResult:
        """Protect the machines of the job."""
        self._book.tell("Repository", request.repository)
        if request.options.archive is not None:
            self._book.tell("Archive", kept_words(request.options.archive))
        if request.options.quick is not None:
            self._book.tell("Quick backup", f"increments between two runs of {request.job}")
        return await self._run.carry_out(self._protect_all)

    async def _protect_all(self) -> None:
        await wait_for_earlier(self._request.after, self._book)
        machines = await self._find_machines()
        await self._find_room()
        self._book.enter("protecting machines")
        work = [partial(self._protect, machine) for machine in machines]
        # One after the other where they share a chain: its file has one writer.
        at_once = 1 if self._request.options.owner is not None else self._request.options.machines_at_once
        if self._request.options.owner is not None:
            self._book.tell("Chain", "one for all machines of the job, which take turns")
        await in_lanes(work, max(1, at_once))
        stop_if_cancelled()
        if self._request.upkeep is not None:  # sessions of earlier versions have none
            await self._upkeep(self._request.upkeep)
        self._raise_failures(len(machines))

    async def _upkeep(self, wanted: UpkeepOptions) -> None:
        """Look after the chains of machines that got a point.

        Who is gone is judged only when no machine failed, and none was left out because nothing is known of it, by a
        session of the whole job.
        """
        judges_gone = self._are_all_known and not self._failures and self._request.options.quick is None
        upkeep = SessionUpkeep(self._run, wanted, self._request.options.credential)
        if wanted.owner is not None:
            await upkeep.of_owner(wanted.owner, self._run.points, judges_gone=judges_gone)
            return
        await upkeep.of_points(self._run.points)
        if judges_gone:
            await upkeep.of_gone_machines()

    async def _find_machines(self) -> tuple[Machine, ...]:
        request = self._request
        self._book.enter("looking for the machines")
        queue = queues.proxy_queue(await self._who_looks())
        found = await step(
            snapshot.find_machines,
            snapshot.FindMachines(provider=request.provider, references=request.machines, excluded=request.excluded),
            options.lookup(queue, summary(f"{request.job} at {request.provider}")),
        )
        self._book.note(f"not protected: {missing}" for missing in found.missing)
        self._book.note(f"not protected: {problem}" for problem in found.problems)
        # Sessions of earlier versions went on; the mark is asked for only where that makes a difference.
        self._are_all_known = not (found.problems and workflow.patched("gone-only-when-all-are-known"))
        self._book.note(f"nothing is left out for {note}" for note in found.notes)
        if not found.machines:
            raise MachineNotFound(f"job {request.job} finds no machine at provider {request.provider}")
        self._labels = labels(found.machines)
        for machine in found.machines:
            self._book.expect(machine, machine.disks)
        return found.machines

    async def _who_looks(self) -> str:
        """Return the proxy that looks for the machines: the first that answers when there is a choice."""
        request = self._request
        if request.resources is None:
            return request.proxy
        inquiry = Inquiry(provider=request.provider, repository=request.repository)
        found = await find_proxies(request.resources, inquiry, (), self._book)
        return found.candidates[0].name

    async def _find_room(self) -> None:
        """Choose the extent; a folder that is not there is waited for."""
        for pause_s in (*_PAUSES_S, 0):
            try:
                await self._choose_extent()
            except RepositoryUnavailable as error:
                if not pause_s:
                    raise
                self._book.enter(f"waiting for the repository: {error.message}")
                await workflow.sleep(timedelta(seconds=pause_s), summary="until the repository is back")
            else:
                return

    async def _choose_extent(self) -> None:
        name = self._request.repository
        found = await step(
            extents.gather_facts,
            extents.GatherExtentFacts(repository=name),
            options.lookup(queues.repository_queue(name), summary(f"room in {name}")),
        )
        choice = choose_extent(name, found.extents, needed_bytes=0)
        free_bytes = next(facts.free_bytes for facts in found.extents if facts.name == choice.extent)
        self._book.tell("Extent", f"{choice.extent} ({choice.reason}), {size_text(free_bytes)} free")

    async def _protect(self, machine: Machine) -> None:
        """Protect one machine; what happens to it ends this machine only."""
        self._book.set_state(machine.machine_id, "running")
        child_id = queues.machine_backup_id(self._request.repository, machine.machine_id, machine.name)
        self._book.children.append(child_id)
        try:
            result = await self._run_child(machine, child_id)
        except asyncio.CancelledError as failure:
            await self._lost(machine, failure)
            raise
        except FailureError as failure:
            await self._lost(machine, failure)
            stop_if_cancelled()
        else:
            self._take(result)

    async def _run_child(self, machine: Machine, child_id: str) -> MachineBackupResult:
        request = self._request

        def start() -> Awaitable[MachineBackupResult]:
            return workflow.execute_child_workflow(
                MachineBackup.run,
                MachineBackupRequest(
                    session_id=self._run.session_id,
                    job=request.job,
                    provider=request.provider,
                    proxy=request.proxy,
                    repository=request.repository,
                    machine=machine,
                    options=request.options,
                    resources=request.resources,
                    began=self._run.started,
                ),
                id=child_id,
                # A session that is terminated asks its machines to stop, so that they clean up.
                parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
                search_attributes=search_attributes.started(
                    search_attributes.Subject(
                        kind=request.options.kind,
                        job=request.job,
                        machine=machine.name,
                        repository=request.repository,
                    )
                ),
                static_summary=machine_summary(machine, request.repository),
            )

        return await run_child(child_id, start, MachineBackupResult)

    def _take(self, result: MachineBackupResult) -> None:
        self._book.replace(result.machine_id, result.tasks)
        label = self._labels[result.machine_id]
        self._book.note(with_machine(note, result.machine_name, label) for note in result.notes)
        if result.point is not None:
            self._run.points.append(result.point)
        if result.verified_bytes is not None:
            self._verified.append(result.verified_bytes)
            points = f"{len(self._verified)} of {count_text(len(self._run.points), 'new point')}"
            self._book.tell("Verified", f"{points}, {size_text(sum(self._verified))} read back, nothing is damaged")
        if result.snapshot_open_s > self._longest_open_s:
            self._longest_open_s = result.snapshot_open_s
            longest = f"{duration_text(result.snapshot_open_s)}, of {label}"
            self._book.tell("Longest open snapshot", longest)

    async def _lost(self, machine: Machine, failure: BaseException) -> None:
        problem, outcome = problem_of(failure), outcome_of_failure()
        result = result_in(failure, MachineBackupResult)
        if result is not None:
            self._take(result)
        for task in self._book.give_up(outcome, problem, machine.machine_id):
            await self._run.recorder.task(task)
        if outcome is Outcome.FAILED:
            self._failures.append((self._labels[machine.machine_id], problem, failure))

    def _raise_failures(self, machines: int) -> None:
        if not self._failures:
            return
        named = ", ".join(
            f"{name} ({problem.code})" for name, problem, _ in sorted(self._failures, key=_by_name)[:_NAMED_MAX]
        )
        more = f" and {len(self._failures) - _NAMED_MAX} more" if len(self._failures) > _NAMED_MAX else ""
        message = f"{len(self._failures)} of {machines} machines failed: {named}{more}"
        # The cause of a single failure is the cause of the session's; several have no common one.
        only = self._failures[0][2] if len(self._failures) == 1 else None
        raise SessionFailed(message) from only


def _by_name(failure: tuple[str, Problem, BaseException]) -> str:
    return failure[0]


def machine_summary(machine: Machine, repository: str) -> str:
    """Return the line that stands for a machine in a list of workflows."""
    size = size_text(sum(disk.size_bytes for disk in machine.disks))
    return summary(f"{machine.name}: {count_text(len(machine.disks), 'disk')}, {size} -> {repository}")
