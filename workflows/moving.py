"""Chains that change their place or owner: mapped to another machine, renamed, or moved to another repository.

Guarantee: at every moment each chain is whole in one place at least, and no backup of the machine begins meanwhile.
What was begun goes on behind its last commit whatever dies; what is cancelled leaves nothing of a chain that was not
moved whole.
"""

from collections.abc import Sequence

from temporalio import workflow

from activities.contracts import moving, snapshot
from holdfast.errors import MachineNotFound, RequestInvalid
from holdfast.model.ids import MachineId
from holdfast.model.session import SessionKind
from workflows import options, queues
from workflows.chain_messages import ChainTask, HoldRequest, MoveRequest
from workflows.holding import hold
from workflows.messages import SessionProgress, SessionResult
from workflows.report import size_text, summary
from workflows.session import SessionRun
from workflows.steps import step, stop_if_cancelled
from workflows.undo import shielded


@workflow.defn(name="MoveChains")
class MoveChains:
    """Hold the machine, change what is wanted, tell the catalog, let go."""

    @workflow.init
    def __init__(self, request: MoveRequest) -> None:
        """Take the request, so that questions can be answered from the first moment."""
        self._request = request
        self._run = SessionRun(
            SessionKind.CHAINS,
            request.job,
            request.repository,
            request.session_id,
            title=f"{request.task} of the chains of {request.machine_name}",
        )
        self._book = self._run.book

    @workflow.query(name="progress", description="Where the session stands")
    def progress(self) -> SessionProgress:
        """Return where the session stands."""
        return self._book.progress()

    @workflow.run
    async def run(self, request: MoveRequest) -> SessionResult:
        """Carry one change out."""
        self._book.tell("Repository", request.repository)
        self._book.tell("Machine", f"{request.machine_name} ({request.folder})")
        return await self._run.carry_out(self._change)

    async def _change(self) -> None:
        match self._request.task:
            case ChainTask.MAP:
                await self._map()
            case ChainTask.RENAME:
                await self._give(self._request.machine_id, self._request.new_name)
            case ChainTask.MOVE:
                await self._move()

    async def _map(self) -> None:
        request = self._request
        machine_id, name = request.new_id, request.new_name or request.new_id
        if request.provider:
            machine_id, name = await self._look_up()
        if machine_id == request.machine_id:
            raise RequestInvalid(f"the chains in {request.folder} are those of machine {machine_id} already")
        self._book.tell("Mapped to", f"{name} ({machine_id})")
        await self._hold(HoldRequest(repository=request.repository, machine_id=machine_id, machine_name=name))
        await self._give(machine_id, name)
        self._book.tell("Next run", "goes on with an increment, and compares every disk with the point before")

    async def _look_up(self) -> tuple[MachineId, str]:
        """Return the machine as its provider knows it. Raises `MachineNotFound`."""
        request = self._request
        self._book.enter("looking for the machine")
        found = await step(
            snapshot.find_machines,
            snapshot.FindMachines(provider=request.provider, references=(request.new_id,)),
            options.lookup(queues.proxy_queue(request.proxy), summary(f"{request.new_id} at {request.provider}")),
        )
        if len(found.machines) != 1:
            count = "no" if not found.machines else "more than one"
            raise MachineNotFound(f"provider {request.provider} has {count} machine {request.new_id}")
        return found.machines[0].machine_id, found.machines[0].name

    async def _give(self, machine_id: MachineId, name: str) -> None:
        request = self._request
        await self._hold_machine()
        self._book.enter("giving the chains away")
        given = await workflow.execute_activity(
            moving.give_machine,
            moving.GiveMachine(
                repository=request.repository,
                folder=request.folder,
                machine_id=machine_id,
                machine_name=name,
                credentials=request.credentials,
                unit_size=request.unit_size,
                job_credential=request.job_credential,
            ),
            **options.change(queues.chain_queue(request.repository), summary(f"{request.folder} to {name}")),
        )
        # Whatever was asked for meanwhile: the chains have another owner, and the catalog shall not name the old one.
        self._book.tell("Folder", given.folder)
        self._book.tell("Chains", f"{len(given.chains)} with {given.points} points")
        await shielded(self._relocate(given.chains))
        stop_if_cancelled()

    async def _move(self) -> None:
        request = self._request
        if request.to == request.repository:
            raise RequestInvalid(f"the chains in {request.folder} are in repository {request.to} already")
        await self._hold_machine()
        there = HoldRequest(repository=request.to, machine_id=request.machine_id, machine_name=request.machine_name)
        await self._hold(there)
        self._book.enter("looking for the chains")
        found = await step(
            moving.find_chains,
            moving.FindChains(repository=request.repository, folder=request.folder),
            options.lookup(queues.chain_queue(request.repository), summary(request.folder)),
        )
        if not found.chains:
            raise MachineNotFound(f"repository {request.repository} has no chain in {request.folder}")
        self._book.tell("To", request.to)
        self._book.enter("moving the chains")
        for number, chain in enumerate(found.chains, 1):
            self._book.tell("Moving", f"{chain}, {number} of {len(found.chains)}")
            await self._move_one(chain)
            stop_if_cancelled()

    async def _move_one(self, chain: str) -> None:
        request = self._request
        queue = queues.chain_queue(request.to)
        undo = f"the copy of {chain}"
        discard = moving.DiscardMove(target=request.to, chain=chain)
        config = options.undo(queue, summary(f"discard {undo}"))
        self._run.undo.push(undo, lambda: workflow.execute_activity(moving.discard, discard, **config))
        wanted = moving.MoveChain(
            source=request.repository, target=request.to, chain=chain, credentials=request.credentials
        )
        relocation = options.relocation(queue, summary(f"{chain} -> {request.to}"))
        moved = await workflow.execute_activity(moving.move_chain, wanted, **relocation)
        # Whatever was asked for meanwhile: the chain is there and not here, and nothing is left to be taken back.
        self._run.undo.drop(undo)
        self._book.tell(chain.rpartition("/")[2], f"{moved.points} points, {size_text(moved.size_bytes)}")
        if moved.stays_until is None:
            await shielded(self._relocate((moved.place,)))
            return
        until = moved.stays_until.isoformat(timespec="minutes")
        stays = f"{chain} was copied and stays in {request.repository}: a point of it is locked until {until}"
        self._book.note([f"{stays}; the same move after that lets it go"])

    async def _relocate(self, places: Sequence[moving.ChainPlace]) -> None:
        request = self._request
        self._book.enter("telling the catalog")
        relocated = moving.RelocateChains(
            repository=request.repository, to=request.to or request.repository, chains=tuple(places)
        )
        config = options.record(queues.CONTROL, "where chains are", options.FINISH_PATIENCE)
        await workflow.execute_activity(moving.relocate, relocated, **config)

    async def _hold_machine(self) -> None:
        request = self._request
        await self._hold(
            HoldRequest(repository=request.repository, machine_id=request.machine_id, machine_name=request.machine_name)
        )

    async def _hold(self, wanted: HoldRequest) -> None:
        self._book.enter("holding the machine")
        held = await hold(wanted, self._book)
        self._book.children.append(held.workflow_id)
        self._run.undo.push(f"the hold of {wanted.machine_name} in {wanted.repository}", held.let_go)
