"""Retention of a job's machines without a backup: by its own schedule, or as it was shown before.

Guarantee: with plans that were shown, exactly those are carried out, and a machine whose plan changed meanwhile is
left alone.
"""

import msgspec
from temporalio import workflow

from holdfast.model.session import SessionKind
from workflows.messages import MachineUpkeepRequest, RetentionRequest, SessionProgress, SessionResult
from workflows.retention_step import purge_archives
from workflows.session import SessionRun
from workflows.session_upkeep import SessionUpkeep


@workflow.defn(name="RetainPoints")
class RetainPoints:
    """Find the machines, look after each, sum up."""

    @workflow.init
    def __init__(self, request: RetentionRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._run = SessionRun(SessionKind.RETENTION, request.job, request.repository, request.session_id)
        self._book = self._run.book
        self._upkeep = SessionUpkeep(self._run, request.upkeep, request.credential)

    @workflow.query(name="progress", description="Where retention stands")
    def progress(self) -> SessionProgress:
        """Return where the session stands."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: RetentionRequest) -> SessionResult:
        """Apply the retention of a job."""
        self._book.tell("Repository", request.repository)
        return await self._run.carry_out(self._retain)

    async def _retain(self) -> None:
        await self._upkeep.of_machines(list(await self._requests()))
        rules = self._request.upkeep.retention
        if rules is not None and rules.only_archives:  # sessions of earlier versions know no archives
            await purge_archives(self._request.repository, rules, self._book)

    async def _requests(self) -> tuple[MachineUpkeepRequest, ...]:
        request, rules = self._request, self._request.upkeep.retention
        if request.machines or request.only_shown or rules is None:
            return tuple(
                msgspec.structs.replace(
                    self._upkeep.request(
                        one.machine_id,
                        one.machine_name,
                        is_gone=one.is_gone,
                        expected=one.digest,
                        has_consent=request.has_consent,
                    ),
                    gone=one.gone,
                )
                for one in request.machines
            )
        owner = request.upkeep.owner
        if owner is not None:
            return (self._upkeep.request_of_owner(owner, await self._upkeep.gone_of_owner()),)
        found = await self._upkeep.find_machines(rules, only_gone=False)
        return tuple(self._upkeep.request(one.machine_id, one.machine_name, is_gone=one.is_gone) for one in found)
