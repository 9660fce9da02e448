"""A sweep removes the snapshot of a session whose worker was killed and whose workflow was terminated, no other."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest

from holdfast.catalog.database import Catalog
from holdfast.errors import ConfigurationInvalid
from holdfast.model.ids import JobName, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import Machine
from holdfast.model.session import Outcome, Session, SessionKind
from holdfast.providers.ports import Provider
from tests.workers.cli.conftest import wait_until_polled, workers
from tests.workers.cli.place import Place
from workers.cli.backup import request_of
from workers.cli.invocation import Flags, Invocation
from workers.cli.starts import backup_start
from workers.devserver import DevServer, DevServerAddress, DevServerSettings
from workers.temporal import connect
from workers.vcenter_lab import VCenterAddress
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.machine_backup import MachineBackup
from workflows.messages import MachineBackupRequest

PROGRAM = (sys.executable, "-c", "from workers.cli.main import main; main()")
DEAD, ALIVE = SessionId("dead"), SessionId("alive")
MAIN = RepositoryName("main")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServerAddress]:
    """A server of these tests alone: control workers of another installation would look into another catalog."""
    server = DevServer(tmp_path_factory.mktemp("temporal"), DevServerSettings(is_headless=True))
    try:
        yield server.start()
    finally:
        server.kill()


def test_an_unknown_provider_is_refused_at_once(place: Place) -> None:
    place.json("provider", "sweep", "nowhere", status=ConfigurationInvalid.exit_status)


class Installation:
    """A vCenter, a server, a catalog; sessions are begun as a backup job begins them."""

    def __init__(self, place: Place, provider: Provider) -> None:
        self.place, self.provider = place, provider
        self.machines = {machine.name: machine for machine in provider.machines()}

    def begin(self, session_id: SessionId, machine: Machine) -> None:
        """Begin a session that gets stuck behind its snapshot, because nobody serves the repository."""
        write_session(self.place, session_id, SessionKind.BACKUP, workflow_id_of(machine))
        asyncio.run(self._start(session_id, machine))

    async def _start(self, session_id: SessionId, machine: Machine) -> None:
        request = MachineBackupRequest(
            session_id=session_id,
            job=JobName("nightly"),
            provider=ProviderName("vc"),
            proxy="p1",
            repository=MAIN,
            machine=machine,
        )
        client = await connect(self.place.settings.temporal)
        await client.start_workflow(MachineBackup.run, request, id=workflow_id_of(machine), task_queue=queues.CONTROL)
        async with asyncio.timeout(60):
            while queues.snapshot_tag(session_id) not in self.tags():  # noqa: ASYNC110 - a vCenter tells nobody
                await asyncio.sleep(0.05)

    def terminate(self, machine: Machine) -> None:
        asyncio.run(end(self.place, workflow_id_of(machine)))

    def tags(self) -> list[str]:
        return sorted(snapshot.tag for snapshot in self.provider.open_snapshots())


def write_session(place: Place, session_id: SessionId, kind: SessionKind, workflow_id: str) -> None:
    """Write a session that has not ended into the catalog."""
    session = Session(
        session_id=session_id,
        kind=kind,
        job=JobName("nightly"),
        repository=MAIN,
        outcome=Outcome.RUNNING,
        started=place.clock.now(),
        workflow_id=workflow_id,
    )
    with Catalog.open(place.settings.catalog_url, place.clock) as catalog:
        catalog.sessions.begin(session)


def workflow_id_of(machine: Machine) -> str:
    return queues.machine_backup_id(MAIN, machine.machine_id, machine.name)


@pytest.fixture
def installation(
    tmp_path_factory: pytest.TempPathFactory, server: DevServerAddress, vcenter: VCenterAddress
) -> Iterator[Installation]:
    place = Place(tmp_path_factory.mktemp("sweep"), server.grpc)
    place.add_vcenter(vcenter)
    text = place.config.read_text().replace('credential = "vc"', 'credential = "vc"\nfree_space_min_percent = 0')
    place.config.write_text(text)
    with closing(Invocation(Flags(config=place.config))) as run:
        yield Installation(place, run.providers.open(ProviderName("vc")))


@contextmanager
def killed_at_the_end(place: Place) -> Iterator[None]:
    """Let a process of its own serve everything but the repository, until it is killed."""
    command = [*PROGRAM, "worker", "proxy", "--name", "p1", "--config", str(place.config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


@pytest.mark.temporal
@pytest.mark.vsphere
def test_what_a_terminated_session_left_goes_and_what_runs_keeps_its_snapshot(installation: Installation) -> None:
    place = installation.place
    dead, alive = installation.machines["DC0_H0_VM0"], installation.machines["DC0_H0_VM1"]
    with workers(place.settings, "control"):
        with killed_at_the_end(place):
            installation.begin(DEAD, dead)
            installation.begin(ALIVE, alive)
        installation.terminate(dead)
        assert installation.tags() == ["holdfast-alive", "holdfast-dead"]
        with workers(place.settings, "proxy"):
            wait_until_polled(place.settings, "control", "proxy")
            young = place.json("provider", "sweep", "vc")["swept"]
            assert (young["removed"], young["kept"]) == (0, 2)
            trial = place.json("provider", "sweep", "vc", "--dry-run", "--now")["swept"]
            assert {one["tag"]: (one["is_removed"], one["reason"]) for one in trial["decisions"]} == {
                "holdfast-dead": (True, "session dead is over"),
                "holdfast-alive": (False, "session alive still runs"),
            }
            assert installation.tags() == ["holdfast-alive", "holdfast-dead"]
            assert "1 removed, 1 kept" in place.run("provider", "sweep", "vc", "--now").stdout
            assert installation.tags() == ["holdfast-alive"]
            assert place.json("provider", "sweep", "vc", "--now")["swept"]["removed"] == 0
            installation.terminate(alive)
            assert place.json("provider", "sweep", "vc", "--now")["swept"]["removed"] == 1
            assert "nothing of dead sessions is there" in place.run("provider", "sweep", "vc", "--now").stdout
    assert installation.tags() == []


@pytest.mark.temporal
def test_a_workflow_id_that_a_later_session_has_now_protects_only_that_one(
    tmp_path_factory: pytest.TempPathFactory, server: DevServerAddress
) -> None:
    place = Place(tmp_path_factory.mktemp("sweep"), server.grpc)
    place.config.write_text(place.config.read_text().replace('"nightly"', '"swept"'))
    place.add_machine("web", 1)
    web = place.provider.machine("web")
    with workers(place.settings, "control", "proxy"):
        wait_until_polled(place.settings, "control", "proxy")
        # Nobody serves the repository, so the session waits; like every scheduled one it takes its id from its run.
        run_id = asyncio.run(scheduled(place))
        earlier, forgotten = SessionId("earlier"), SessionId("forgotten")
        write_session(place, earlier, SessionKind.BACKUP, queues.backup_id(JobName("swept")))
        write_session(place, forgotten, SessionKind.RESTORE, queues.restore_id(forgotten))
        for session_id in (run_id, earlier):
            place.provider.create_snapshot(web.machine_id, queues.snapshot_tag(session_id))
        copy = msgspec.structs.replace(web, name="copy")
        target = place.provider.prepare_target(queues.snapshot_tag(forgotten), copy, web.disks, None)
        swept = place.json("provider", "sweep", "lab", "--now")["swept"]
        removed = {one["tag"] or one["target_id"] for one in swept["decisions"] if one["is_removed"]}
        assert removed == {queues.snapshot_tag(earlier), target.target_id}
        assert place.provider.targets() == []
        asyncio.run(end(place, queues.backup_id(JobName("swept"))))
        assert place.json("provider", "sweep", "lab", "--now")["swept"]["removed"] == 1
    assert list(place.provider.open_snapshots()) == []


async def scheduled(place: Place) -> SessionId:
    """Start the job as its schedule does, and return the session that it is, once that is written down."""
    client = await connect(place.settings.temporal)
    start = backup_start(request_of(place.settings, place.settings.job("swept"), SessionId("")))
    handle = await client.start_workflow(start.workflow, start.request, id=start.workflow_id, task_queue="control")
    session_id = SessionId(handle.first_execution_run_id or "")
    async with asyncio.timeout(60):
        while (await handle.query(BackupJob.progress)).phase == "starting":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    return session_id


async def end(place: Place, workflow_id: str) -> None:
    await (await connect(place.settings.temporal)).get_workflow_handle(workflow_id).terminate("by a test")
