"""The stage of the sessions against a lab vCenter: server, workers, vCenter, machines, and what is left afterwards."""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client as TemporalClient
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from activities.boundary import error_from_failure
from holdfast.clock import SystemClock
from holdfast.errors import HoldfastError
from holdfast.model.ids import DiskKey, JobName, ProviderName, SessionId
from holdfast.model.machine import Machine
from holdfast.model.session import Outcome
from holdfast.pipeline.restore import DiskRestore
from holdfast.providers.raw_disks import TargetDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.points.point_files import read_files
from tests.holdfast.providers.vsphere.bench import VSphereBench, settings_of
from tests.lab.vcenter.client import MIB, Client, vim
from tests.scenarios.gates import standing_at
from tests.scenarios.vsphere.installation import ANY, PROXY, VAULT, settings_for
from workers.cli.starts import Start, backup_start, restore_start, verify_start
from workers.demo.disks import sha256_of
from workers.vcenter_lab import VCenterAddress, VCenterLab, control
from workflows.messages import BackupOptions, BackupRequest, RestoreRequest, SessionResult, VerifyRequest
from workflows.queues import machine_backup_id

_OURS = "Made by Holdfast"
_STAGING = "holdfast-restore-"
_CERTIFICATE = ("vcenter.crt", "vcenter.key")
_PATIENCE_S = 30.0
_LOOK_S = 0.02

Handle = WorkflowHandle[Any, SessionResult]


class Stage:
    """An installation that protects the machines of one lab vCenter, and the hand of its operator."""

    def __init__(self, temporal: TemporalClient, lab: VCenterLab, root: Path) -> None:
        self.temporal = temporal
        self.lab = lab
        self.root = root
        self._random = random.Random(f"{root.name}")
        self._sessions = 0
        self._connect()
        self.settings = settings_for(self.address, lab, root)

    def _connect(self) -> None:
        address = self.lab.address()
        assert address is not None
        self.address: VCenterAddress = address
        self.vc = Client(address)
        self.bench = VSphereBench(self.vc, settings_of(address), seed=0)

    # Machines

    def machine(self, name: str, *mib: int) -> Machine:
        """Make a machine whose disks are full of random bytes, and switch it on."""
        made = self.bench.make_machine(name, [size * MIB for size in mib or (6, 3)])
        for disk in made.disks:
            self.bench.write_live(made.machine_id, disk.key, 0, self._random.randbytes(disk.size_bytes))
        self.vc.wait(self.bench.vm(made.machine_id).PowerOnVM_Task())
        return made

    def write(self, machine: Machine, offset: int = MIB, length: int = 100_000, disk: int = 0) -> None:
        """Write random bytes, as the guest does."""
        data = self._random.randbytes(length)
        self.bench.write_live(machine.machine_id, self._keys(machine)[disk], offset, data)

    def content(self, machine: Machine) -> dict[str, str]:
        """Return digests of what the disks hold now."""
        return {key: sha256_of(self.bench.path(machine.machine_id, key)) for key in self._keys(machine)}

    def named(self, name: str) -> Machine:
        """Return the machine of a name."""
        return self.bench.provider.machine(name)

    def vm(self, machine: Machine) -> Any:
        return self.bench.vm(machine.machine_id)

    def nvram(self, machine: Machine) -> Path:
        """Return the file with the nvram of a machine, as the lab vCenter keeps it."""
        [listed] = [str(file.name) for file in self.vm(machine).layoutEx.file if file.type == "nvram"]
        store, _, inside = listed[1:].partition("] ")
        return self.lab.data / "datastores" / store / inside

    def switch_off(self, machine: Machine) -> None:
        self.vc.wait(self.vm(machine).PowerOffVM_Task())

    def switch_on(self, machine: Machine) -> None:
        self.vc.wait(self.vm(machine).PowerOnVM_Task())

    def move(self, machine: Machine) -> None:
        """Move a machine to the other datastore."""
        vm = self.vm(machine)
        here = {store.name for store in vm.datastore}
        other = next(store for store in self.vc.all(vim.Datastore) if store.name not in here)
        self.vc.wait(vm.RelocateVM_Task(spec=vim.vm.RelocateSpec(datastore=other)))

    def _keys(self, machine: Machine) -> list[DiskKey]:
        return [disk.key for disk in self.bench.provider.machine(machine.machine_id).disks]

    # The vCenter

    def fault(self, method: str, action: str, **rule: object) -> int:
        """Let calls of a method go wrong, once unless said otherwise; return the number of the rule."""
        added = self.control("POST", "/faults", {"method": method, "action": action, "times": 1} | rule)
        return int(added["id"])

    def hits(self, rule: int) -> int:
        return next(int(found["hit"]) for found in self.control("GET", "/faults") if found["id"] == rule)

    def control(self, method: str, path: str, body: object = None) -> Any:
        return control(self.address, method, path, body)

    def leases(self) -> int:
        """Return how many leases are open."""
        return len(self.control("GET", "/leases"))

    def time_leases_out(self) -> None:
        self.control("DELETE", "/leases")

    def heal(self) -> None:
        """Take back every fault, and make the datastores fast."""
        self.control("DELETE", "/faults")
        self.control("DELETE", "/latency")

    def answer_in(self, machine: Machine, latency_ms: int) -> None:
        """Let hosts measure a latency of the datastore of a machine from now on."""
        [store] = self.vm(machine).datastore
        self.control("POST", "/latency", {"datastore": store.name, "read_ms": latency_ms, "write_ms": 1})

    def expire_sessions(self) -> None:
        self.control("POST", "/sessions/expire")
        self._reconnect()

    def restart(self) -> None:
        """Let vCenter forget sessions, tasks and connections."""
        self.control("POST", "/restart")
        self._reconnect()

    def crash(self) -> None:
        """End the lab like a power failure and start it again."""
        assert self.lab.kill()
        self.lab.start()
        self._reconnect()

    def replace_certificate(self) -> None:
        """Start the vCenter again with another certificate."""
        assert self.lab.stop()
        for name in _CERTIFICATE:
            (self.lab.data / name).rename(self.root / name)
        self.lab.start()
        self._reconnect()

    def restore_certificate(self) -> None:
        """Start the vCenter again with its first certificate."""
        assert self.lab.stop()
        for name in _CERTIFICATE:
            (self.root / name).rename(self.lab.data / name)
        self.lab.start()
        self._reconnect()

    def unmount(self) -> None:
        """Take the datastores away from the proxy; the vCenter keeps them."""
        for mount in (self.root / "mounts").iterdir():
            mount.rename(self.root / f"away-{mount.name}")

    def mount(self) -> None:
        """Give them back."""
        for mount in self.root.glob("away-*"):
            mount.rename(self.root / "mounts" / mount.name.removeprefix("away-"))

    def _reconnect(self) -> None:
        self.close()
        self._connect()

    def close(self) -> None:
        self.bench.close()
        self.vc.close()

    # Sessions

    def backup(
        self, machine: Machine | str, provider: ProviderName = ANY, *, proxy: str = PROXY, **options: Any
    ) -> Start:
        name = machine if isinstance(machine, str) else machine.machine_id
        return backup_start(
            BackupRequest(
                job=JobName("nightly"),
                provider=provider,
                proxy=proxy,
                repository=VAULT,
                machines=(name,),
                options=BackupOptions(**options),
                session_id=self._session_id(),
            )
        )

    def restore(self, machine: Machine, provider: ProviderName = ANY, *, proxy: str = PROXY, **more: Any) -> Start:
        return restore_start(
            RestoreRequest(
                session_id=self._session_id(),
                repository=VAULT,
                provider=provider,
                proxy=proxy,
                machine=machine.machine_id,
                **more,
            )
        )

    async def start(self, start: Start) -> Handle:
        handle: Handle = await self.temporal.start_workflow(
            start.workflow,
            start.request,
            id=start.workflow_id,
            task_queue=start.task_queue,
            search_attributes=start.search_attributes,
            static_summary=start.summary,
        )
        return handle

    async def run(self, start: Start) -> SessionResult:
        return await (await self.start(start)).result()

    async def failure(self, start: Start) -> HoldfastError:
        """Run a session that fails; return its one error."""
        return await self.error_of(await self.start(start))

    async def error_of(self, handle: Handle) -> HoldfastError:
        """Wait for a session that fails; return its one error."""
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        error = error_from_failure(caught.value)
        assert error is not None
        assert error.hint
        return error

    @asynccontextmanager
    async def in_the_middle(self, start: Start, point: str = "pipe.unit_written") -> AsyncIterator[Handle]:
        """Start a session, and hold it where it passes a fault point until the block ends."""
        with standing_at(point) as reached:
            handle = await self.start(start)
            assert await asyncio.to_thread(reached.wait, _PATIENCE_S)
            yield handle

    async def failure_said(self, machine: Machine, part: str) -> str:
        """Wait until an activity for a machine has failed with ``part`` in its message; return code and message."""
        child = machine_backup_id(VAULT, machine.machine_id, machine.name)
        for _ in range(int(_PATIENCE_S / _LOOK_S)):
            with contextlib.suppress(RPCError):  # not begun yet
                described = await self.temporal.get_workflow_handle(child).describe()
                for pending in described.raw_description.pending_activities:
                    failure = pending.last_failure
                    if part in failure.message:
                        return f"{failure.application_failure_info.type}: {failure.message}"
            await asyncio.sleep(_LOOK_S)
        raise AssertionError(f"nothing failed with {part!r}")

    async def wait_for_hit(self, rule: int) -> None:
        """Wait until a fault has happened."""
        for _ in range(int(_PATIENCE_S / _LOOK_S)):
            if self.hits(rule):
                return
            await asyncio.sleep(_LOOK_S)
        raise AssertionError(f"rule {rule} was never hit")

    def _session_id(self) -> SessionId:
        self._sessions += 1
        return SessionId(f"s{self._sessions:04}")

    # What is left

    def files(self) -> list[str]:
        """Return every file of every datastore."""
        root = self.lab.data / "datastores"
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def snapshots(self) -> list[str]:
        """Return the names of our snapshots on any machine."""
        found = []
        for vm in self.vc.all(vim.VirtualMachine):
            left = list(vm.snapshot.rootSnapshotList) if vm.snapshot else []
            while left:
                entry = left.pop()
                left.extend(entry.childSnapshotList)
                if _OURS in entry.description:
                    found.append(f"{vm.name}: {entry.name}")
        return found

    def expect_nothing_left(self, files: list[str]) -> None:
        """No snapshot, no staging machine, no file that was not there."""
        assert self.snapshots() == []
        assert [vm.name for vm in self.vc.all(vim.VirtualMachine) if vm.name.startswith(_STAGING)] == []
        assert [vm.name for vm in self.vc.all(vim.VirtualMachine) if vm.runtime.consolidationNeeded] == []
        assert self.files() == files

    def stored(self, machine: Machine, point: str = "latest") -> dict[str, str]:
        """Return digests of what a point holds, read through the restore path and without the vCenter."""
        repository = Repository.open(self.root / "vault", HostFiles())
        found = repository.find_point(point, machine=machine.machine_id)
        content = {}
        with repository.open_chain(found.chain, None) as chain:
            for disk in found.point.disks:
                source = chain.disk(found.point.number, disk.key)
                with tempfile.NamedTemporaryFile(dir=self.root) as file:
                    file.truncate(source.size_bytes)
                    with TargetDisk(Path(file.name)) as target:
                        DiskRestore(source, target, chain.files[0].keys.digest_key, SystemClock()).run(0, _ignored)
                    content[disk.key] = sha256_of(Path(file.name))
        return content

    def kept_files(self, machine: Machine, point: str = "latest") -> dict[str, bytes]:
        """Return the machine files that a point keeps."""
        repository = Repository.open(self.root / "vault", HostFiles())
        found = repository.find_point(point, machine=machine.machine_id)
        with repository.open_chain(found.chain, None) as chain:
            return {file.name: file.content for file in read_files(chain, found.point.number).files}

    def points(self, machine: Machine) -> int:
        """Return how many points of a machine there are, complete or not."""
        repository = Repository.open(self.root / "vault", HostFiles())
        return len(list(repository.points(machine=machine.machine_id)))

    async def expect_sound(self, machine: Machine, files: list[str] | None = None) -> SessionResult:
        """Nothing is left, the chain verifies, the next session succeeds, and its point holds the live bytes."""
        self.heal()
        self.expect_nothing_left(self.files() if files is None else files)
        self.write(machine, 2 * MIB)
        result = await self.run(self.backup(machine))
        assert result.session.outcome is Outcome.SUCCESS, result.session.notes
        assert self.stored(machine) == self.content(machine)
        request = VerifyRequest(session_id=self._session_id(), repository=VAULT, machine=machine.machine_id)
        report = (await self.run(verify_start(request))).report
        assert report is not None
        assert report.is_good
        self.expect_nothing_left(self.files() if files is None else files)
        return result


def _ignored(_: object) -> None:
    """Take a report of progress."""
