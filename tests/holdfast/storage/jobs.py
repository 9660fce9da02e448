"""Two machines of a job that keeps them in one chain."""

import msgspec

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import JobName, MachineId, SessionId
from holdfast.model.owners import ChainOwner
from holdfast.model.plan import ReadMode
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.model.spans import Span
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.intake.lifecycle import StoreOptions, abandon_session
from holdfast.testing.chains import CHEAP, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import PIPE, ROOT

OWNER = ChainOwner.of_job(JobName("nightly"))


class Job:
    """Machines ``a`` and ``b``, each backed up in every session unless it fails."""

    def __init__(self, files: CrashFiles, passphrase: str | None = None, repository: Repository | None = None) -> None:
        self.files = files
        self.repository = repository or Repository.create(ROOT, files, "id", SystemClock().now())
        self.store = StoreOptions(unit_size=256 << 10, passphrase=passphrase, passphrase_cost=CHEAP, owner=OWNER)
        self.a = self.machine("a", {"disk0": 9, "disk1": 3}, 1)
        self.b = self.machine("b", {"disk0": 7}, 20)

    def machine(self, name: str, sizes: dict[str, int], seed: int) -> ProtectedMachine:
        bytes_of = {key: pieces * PIECE_SIZE for key, pieces in sizes.items()}
        machine = ProtectedMachine(self.repository, seed, bytes_of, self.store, PIPE)
        machine.machine_id, machine.name = MachineId(f"m-{name}"), name
        for disk in machine.disks.values():
            disk.write(Span(0, disk.size_bytes))
        return machine

    @property
    def machines(self) -> tuple[ProtectedMachine, ProtectedMachine]:
        return self.a, self.b

    def change(self, at: int = 0) -> None:
        for machine in self.machines:
            machine.disks["disk0"].write(Span(at * PIECE_SIZE, PIECE_SIZE))

    def run(self) -> list[PointSummary]:
        return [machine.back_up() for machine in self.machines]

    def half_written(self, machine: ProtectedMachine) -> OpenPoint:
        """Begin a point in the machine's next session and bring one disk of it, which is not all of it."""
        machine.sessions += 1
        opened = machine.begin()
        machine.transfer(opened, "disk0", ReadMode.CHANGED)
        return opened

    def abandon(self, machine: ProtectedMachine) -> tuple[str, ...]:
        session = SessionId(f"session-{machine.sessions}")
        return abandon_session(self.repository, session, machine.snapshot().machine, self.store)

    def restarted(self, files: CrashFiles) -> "Job":
        """The same job over another state of its repository; what its machines must read as is known still."""
        job = Job(files, self.store.passphrase, Repository.open(ROOT, files))
        for mine, theirs in zip(job.machines, self.machines, strict=True):
            mine.disks = {key: disk.copy() for key, disk in theirs.disks.items()}
            mine.kept, mine.sessions = list(theirs.kept), theirs.sessions
            mine.rewind(len(mine.kept))
        return job

    def check(self) -> None:
        """Every point reads its bytes, and every stored byte is good."""
        for machine in self.machines:
            assert machine.differences() == []
        chains = {kept.summary.chain for machine in self.machines for kept in machine.kept}
        for name in chains:
            with self.repository.open_chain(name, self.store.passphrase) as chain:
                assert verify_chain(chain, lambda _: None).damages == ()
                assert all(file.complete_slots == 2 for file in chain.files)

    def per_machine(self) -> None:
        """Let each machine have chains of its own from now on."""
        self.store = msgspec.structs.replace(self.store, owner=None)
        for machine in self.machines:
            machine.store = self.store
