"""Whole sessions over the real engine: a real server, all workers in this process, and what is on disk afterwards."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle

from activities.boundary import error_from_failure
from holdfast.catalog.database import Catalog
from holdfast.clock import SystemClock
from holdfast.errors import ChainBroken, DataDamaged, MachineRunning
from holdfast.model.ids import CredentialName, DiskKey, JobName, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import Machine, PowerState
from holdfast.model.session import Outcome
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.scenarios.gates import standing_at
from workers.cli.starts import Start, backup_start, restore_start, verify_start
from workers.config import ProxySettings, Settings
from workers.devserver import DevServer, DevServerSettings
from workers.provider_settings import LocalProviderSettings
from workers.repository_settings import RepositorySettings
from workers.roles import enter_workers
from workers.run import ALL, duties_of, make_tools
from workers.temporal import connect
from workers.temporal_settings import TemporalSettings
from workflows.failures import result_in
from workflows.messages import BackupOptions, BackupRequest, RestoreRequest, SessionResult, VerifyRequest

pytestmark = [pytest.mark.slow, pytest.mark.temporal]

MIB = 1 << 20
SEED = 20
LAB, VAULT, PROXY = ProviderName("lab"), RepositoryName("vault"), "proxy-a"
SECRET = CredentialName("night")


class Site:
    """An installation with one provider, one repository and one proxy, and its sessions."""

    def __init__(self, client: Client, settings: Settings, seed: int) -> None:
        self._client = client
        self._settings = settings
        self._random = random.Random(seed)
        self._sessions = 0
        self.root = settings.home.parent
        self.provider = LocalProvider(self.root / "lab", SystemClock())

    def add_machine(self, name: str, *sizes: int) -> Machine:
        """Add a machine; its disks are half random bytes, half zeros."""
        disks = {}
        for number, size in enumerate(sizes):
            path = self.root / f"{name}-{number}.raw"
            path.write_bytes(self._random.randbytes(size // 2) + bytes(size - size // 2))
            disks[DiskKey(f"disk{number}")] = path
        return self.provider.add_machine(name, disks)

    def write(self, name: str, offset: int, length: int) -> None:
        """Write random bytes to the first disk of a machine."""
        with (self.root / f"{name}-0.raw").open("r+b") as file:
            file.seek(offset)
            file.write(self._random.randbytes(length))

    def content(self, reference: str) -> dict[str, bytes]:
        """Return what the disks of a machine hold."""
        return {key: path.read_bytes() for key, path in self.provider.disk_paths(reference).items()}

    def snapshots(self) -> list[str]:
        """Return the tags of all snapshots."""
        return [
            found.tag for machine in self.provider.machines() for found in self.provider.snapshots(machine.machine_id)
        ]

    def chain_files(self, machine: str) -> list[Path]:
        """Return the chain files of a machine, finished or not."""
        return sorted((self.root / "vault" / "machines").glob(f"{machine}-*/*/*.hfc*"))

    def backup(self, *machines: str, **options: Any) -> Start:
        return backup_start(
            BackupRequest(
                job=JobName("nightly"),
                provider=LAB,
                proxy=PROXY,
                repository=VAULT,
                machines=machines,
                options=BackupOptions(credential=SECRET, **options),
                session_id=self._session_id(),
            )
        )

    def restore(self, machine: str, **more: Any) -> Start:
        request = RestoreRequest(
            session_id=self._session_id(),
            repository=VAULT,
            provider=LAB,
            proxy=PROXY,
            machine=machine,
            credential=SECRET,
            **more,
        )
        return restore_start(request)

    def verify(self, **more: Any) -> Start:
        return verify_start(VerifyRequest(session_id=self._session_id(), repository=VAULT, credential=SECRET, **more))

    async def start(self, start: Start) -> WorkflowHandle[Any, SessionResult]:
        handle: WorkflowHandle[Any, SessionResult] = await self._client.start_workflow(
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

    async def failure(self, start: Start) -> WorkflowFailureError:
        handle = await self.start(start)
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
        return caught.value

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        with Catalog.open_read_only(self._settings.catalog_url, SystemClock()) as catalog:
            yield catalog

    def _session_id(self) -> SessionId:
        self._sessions += 1
        return SessionId(f"s{self._sessions:04}")


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    server = DevServer(tmp_path_factory.mktemp("temporal"), DevServerSettings(is_headless=True))
    try:
        address = server.start()
        yield await connect(TemporalSettings(address=address.grpc, namespace=address.namespace))
    finally:
        server.kill()


@pytest.fixture(scope="module")
async def site(client: Client, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One site for all tests: a worker that leaves a queue may take a task with it until that task's time is over."""
    tmp_path = tmp_path_factory.mktemp("site")
    settings = Settings(
        home=tmp_path / "home",
        providers=(LocalProviderSettings(name=LAB, path=tmp_path / "lab"),),
        repositories=(RepositorySettings(name=VAULT, path=tmp_path / "vault"),),
        proxies=(ProxySettings(name=PROXY),),
    )
    settings.credentials.folder.mkdir(parents=True)
    secret = settings.credentials.folder / SECRET
    secret.touch(mode=0o600)
    secret.write_text("correct horse\n")
    LocalProvider.create(tmp_path / "lab", SystemClock())
    Repository.create(tmp_path / "vault", HostFiles(), "ab" * 16, SystemClock().now())
    async with AsyncExitStack() as stack:
        await enter_workers(stack, client, duties_of(settings, ALL), make_tools(settings, stack))
        yield Site(client, settings, SEED)


async def test_a_machine_comes_back_as_it_was_at_each_point(site: Site) -> None:
    site.add_machine("web1", 8 * MIB, 4 * MIB)
    site.add_machine("db1", 4 * MIB)
    first = await site.run(site.backup("web1", "db1", verify=True))
    before = site.content("web1")
    site.write("web1", 6 * MIB + 512, 100_000)
    second = await site.run(site.backup("web1", "db1", verify=True))
    assert [session.session.outcome for session in (first, second)] == [Outcome.SUCCESS] * 2
    assert {point.kind for point in first.points} == {"full"}
    assert {point.kind for point in second.points} == {"increment"}
    assert second.session.figures.read_bytes < MIB
    [older] = [point for point in first.points if point.machine_name == "web1"]
    await site.run(site.restore("web1", point=older.point_id[:12], new_name="web1-before"))
    await site.run(site.restore("web1", new_name="web1-now"))
    assert site.content("web1-before") == before
    assert site.content("web1-now") == site.content("web1") != before
    assert site.snapshots() == []
    assert site.provider.targets() == []


async def test_the_original_is_brought_back_once_it_is_off(site: Site) -> None:
    machine = site.add_machine("web2", 4 * MIB)
    await site.run(site.backup("web2"))
    before = site.content("web2")
    site.write("web2", 0, MIB)
    site.provider.set_power(machine.machine_id, PowerState.ON)
    refused = await site.failure(site.restore("web2"))
    assert isinstance(error_from_failure(refused), MachineRunning)
    assert site.content("web2") != before
    assert site.provider.targets() == []
    site.provider.set_power(machine.machine_id, PowerState.OFF)
    result = await site.run(site.restore("web2", power=PowerState.ON))
    assert site.content("web2") == before
    assert result.machine is not None
    assert (result.machine.machine_id, result.machine.power) == (machine.machine_id, PowerState.ON)


async def test_the_catalog_tells_what_happened(site: Site) -> None:
    site.add_machine("web3", 4 * MIB)
    result = await site.run(site.backup("web3"))
    with site.catalog() as catalog:
        assert catalog.sessions.get(result.session.session_id) == result.session
        assert catalog.sessions.tasks(result.session.session_id) == result.tasks
        [recorded] = catalog.points.list(machine="web3")
    assert recorded.point_id == result.points[0].point_id
    assert recorded.stored_bytes == result.session.figures.stored_bytes > 2 * MIB


async def test_a_session_cancelled_in_the_middle_of_a_disk_leaves_nothing(site: Site) -> None:
    site.add_machine("web4", 16 * MIB)
    start = site.backup("web4")
    with standing_at("pipe.unit_written") as reached:
        handle = await site.start(start)
        assert await asyncio.to_thread(reached.wait, 30)
        assert len(site.snapshots()) == 1
        assert len(site.chain_files("web4")) == 1
        await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    assert site.snapshots() == []
    assert site.chain_files("web4") == []
    with site.catalog() as catalog:
        session = catalog.sessions.get(start.request.session_id)
        assert session.outcome is Outcome.CANCELLED
        assert {task.outcome for task in catalog.sessions.tasks(session.session_id)} == {Outcome.CANCELLED}
    assert (await site.run(site.backup("web4"))).session.outcome is Outcome.SUCCESS


async def test_a_chain_that_lost_its_full_fails_one_machine_and_not_the_other(site: Site) -> None:
    site.add_machine("web5", 4 * MIB)
    site.add_machine("db5", 4 * MIB)
    await site.run(site.backup("web5", "db5"))
    await site.run(site.backup("web5", "db5"))
    [full] = [path for path in site.chain_files("web5") if "full" in path.name]
    full.unlink()
    failure = await site.failure(site.backup("web5", "db5"))
    result = result_in(failure, SessionResult)
    assert result is not None
    assert isinstance(error_from_failure(failure), ChainBroken)
    assert [point.machine_name for point in result.points] == ["db5"]
    outcomes = {task.machine_name: task.outcome for task in result.tasks}
    assert outcomes == {"db5": Outcome.SUCCESS, "web5": Outcome.FAILED}
    assert site.snapshots() == []
    healed = await site.run(site.backup("web5", full=True))
    assert healed.points[0].kind == "full"


async def test_lost_change_tracking_is_a_warning_and_loses_nothing(site: Site) -> None:
    site.add_machine("web6", 4 * MIB)
    await site.run(site.backup("web6"))
    for path in (site.root / "lab").rglob("*.map"):
        path.unlink()
    site.write("web6", 3 * MIB, 4096)
    result = await site.run(site.backup("web6"))
    assert result.session.outcome is Outcome.WARNING
    assert "change tracking was lost" in result.session.notes[0]
    await site.run(site.restore("web6", new_name="copy6"))
    assert site.content("copy6") == site.content("web6")


async def test_a_flipped_bit_is_found_and_named(site: Site) -> None:
    site.add_machine("web7", 4 * MIB)
    await site.run(site.backup("web7"))
    good = await site.run(site.verify(machine="web7"))
    assert good.report is not None
    assert good.report.is_good
    [path] = site.chain_files("web7")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    failure = await site.failure(site.verify(machine="web7"))
    assert isinstance(error_from_failure(failure), DataDamaged)
    result = result_in(failure, SessionResult)
    assert result is not None
    assert result.report is not None
    assert {(damage.machine, damage.disk) for damage in result.report.damages} == {("web7", "disk0")}
    assert "damaged: point 1 of web7, disk disk0" in result.session.notes[0]
