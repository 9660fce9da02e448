"""Record histories: what Temporal keeps of sessions that ended in every way, for later versions to replay.

Usage: .venv/bin/python -m scripts.record_histories tests/histories

Histories are only added. A file that is there is never written again: it stands for a session that an earlier version
began and a later one has to go on with. The sessions are real: a development server, all workers in this process, and
the engine on a folder that is gone afterwards.
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from temporalio.client import Client

from activities.contracts.resources import SCHEDULER_ID
from holdfast.clock import SystemClock
from holdfast.model.health import BrokenChain
from holdfast.model.ids import CredentialName, DiskKey, JobName, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import PowerState
from holdfast.model.placement import Resources
from holdfast.model.session import Outcome
from holdfast.model.tags import session_tag
from holdfast.planning.delta import Delta
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from scripts.attached_disks import attached
from scripts.history_recorder import Recorder
from scripts.retained_points import backup_with_retention, retention_as_shown
from scripts.shared_limits import share_a_limit
from workers.cli.starts import Start, backup_start, health_start, resources_of, restore_start, sweep_start, verify_start
from workers.config import ProxySettings, Settings
from workers.devserver import DevServer, DevServerSettings
from workers.provider_settings import LocalProviderSettings
from workers.providers import ProviderPool
from workers.repository_settings import RepositorySettings
from workers.roles import Role, enter_workers
from workers.run import ALL, duties_of, make_tools
from workers.temporal import project_plugin
from workflows.limits import KEEPER_ID
from workflows.messages import (
    BackupOptions,
    BackupRequest,
    HealthRequest,
    HealthTask,
    RestoreRequest,
    SweepRequest,
    UpkeepOptions,
    VerifyRequest,
)

PROXY: Final = "proxy-a"
PROVIDER: Final = ProviderName("lab")
REPOSITORY: Final = RepositoryName("vault")
CREDENTIAL: Final = CredentialName("night")
DISK: Final = DiskKey("data")
_DISK_BYTES: Final = 3 << 20
_MACHINES: Final = ("web", "db")
_IDENTITY: Final = "recorder"


def settings_in(root: Path) -> Settings:
    """Make a provider with two machines and a repository below ``root``, and return their configuration."""
    settings = Settings(
        home=root / "home",
        providers=(LocalProviderSettings(name=PROVIDER, path=root / "hypervisor"),),
        repositories=(RepositorySettings(name=REPOSITORY, path=root / "repository"),),
        proxies=(ProxySettings(name=PROXY),),
    )
    settings.credentials.folder.mkdir(parents=True)
    credential = settings.credentials.folder / CREDENTIAL
    credential.touch(0o600)
    credential.write_text("correct horse\n")
    provider = LocalProvider.create(root / "hypervisor", SystemClock())
    for number, name in enumerate(_MACHINES):
        disk = root / f"{name}.raw"
        disk.write_bytes(random.Random(number).randbytes(_DISK_BYTES))  # noqa: S311 - the same bytes each time
        provider.add_machine(name, {DISK: disk})
    Repository.create(root / "repository", HostFiles(), "ab" * 16, SystemClock().now())
    return settings


@asynccontextmanager
async def serving(client: Client, settings: Settings, role: str) -> AsyncIterator[None]:
    """Serve a role, or all, in this process."""
    async with AsyncExitStack() as stack:
        await enter_workers(stack, client, duties_of(settings, role), make_tools(settings, stack))
        yield


async def record_all(client: Client, settings: Settings, folder: Path) -> None:
    """Record every workflow in every state it may end in."""
    recorder = Recorder(client, settings.home.parent, folder)
    async with serving(client, settings, ALL):
        await _record_backups(recorder)
        await _record_restores(recorder, settings)
        await _record_rollbacks(recorder, settings)
        await recorder.record("success", _verify(recorder), Outcome.SUCCESS)
        await recorder.record("check", _health(recorder, HealthTask.CHECK), Outcome.SUCCESS)
        await recorder.record("success", _health(recorder, HealthTask.SCRUB), Outcome.SUCCESS)
        await _record_damage(recorder, settings)
        await _record_sweeps(recorder, settings)
        await _record_slots(recorder, settings)
        await share_a_limit(client, REPOSITORY)
        await recorder.record_last("success", KEEPER_ID)
        await record_retention(recorder, settings)
    async with serving(client, settings, Role.CONTROL.value):
        await recorder.record_unserved("cancelled", _verify(recorder), "repository.verify")
        await recorder.record_unserved("cancelled", _health(recorder, HealthTask.SCRUB), "health.scrub")
        await recorder.record_unserved("cancelled", _sweep(recorder, PROVIDER), "sweep.find_leftovers")


async def _record_backups(recorder: Recorder) -> None:
    verified = BackupOptions(verify=True, credential=CREDENTIAL, machines_at_once=1)
    await recorder.record("success", nightly(recorder, *_MACHINES, options=verified), Outcome.SUCCESS)
    await recorder.record("increment", nightly(recorder, "web", options=verified), Outcome.SUCCESS)
    await recorder.record("warning", nightly(recorder, "web", "nobody", options=verified), Outcome.WARNING)
    await recorder.record("files", nightly(recorder, "web", options=verified), Outcome.SUCCESS)
    await recorder.record("nothing-found", nightly(recorder, "nobody"), Outcome.FAILED)
    cancelled = nightly(recorder, *_MACHINES, options=BackupOptions(full=True))
    await recorder.record_cancelled("cancelled", cancelled, "transfer.copy_disk", "pipe.unit_written")


async def _record_restores(recorder: Recorder, settings: Settings) -> None:
    await recorder.record("success", _restore(recorder, "web", "web-2"), Outcome.SUCCESS)
    await recorder.record("files", _restore(recorder, "web", "web-files"), Outcome.SUCCESS)
    await recorder.record("over-the-original", _restore(recorder, "web", None), Outcome.SUCCESS)
    await recorder.record("delta", _compare(recorder, "web", into="web-2"), Outcome.SUCCESS)
    cancelled = _restore(recorder, "web", "web-3")
    await recorder.record_cancelled("cancelled", cancelled, "transfer.restore_disk", "restore.block_written")
    provider = ProviderPool(settings, SystemClock(), settings.credentials).open(PROVIDER)
    machine_id = provider.machine("web").machine_id
    provider.set_power(machine_id, PowerState.ON)
    await recorder.record("machine-is-on", _restore(recorder, "web", None), Outcome.FAILED)
    provider.set_power(machine_id, PowerState.OFF)


async def _record_rollbacks(recorder: Recorder, settings: Settings) -> None:
    disk = LocalProvider(settings.home.parent / "hypervisor", SystemClock()).disk_paths("web")[DISK]
    _change(disk)
    await recorder.record("quick-rollback", _roll_back(recorder, "web"), Outcome.SUCCESS)
    _change(disk)
    cancelled = _roll_back(recorder, "web")
    await recorder.record_cancelled("rollback-cancelled", cancelled, "transfer.roll_back_disk", "restore.block_written")
    await recorder.record("rollback-elsewhere", _roll_back(recorder, "web", "web-4"), Outcome.FAILED)


def _change(disk: Path) -> None:
    with disk.open("r+b") as file:
        file.write(b"changed since the point")


async def _record_damage(recorder: Recorder, settings: Settings) -> None:
    [file] = settings.repositories[0].path.glob("machines/db-*/*/*.hfc")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    await recorder.record("damaged", _verify(recorder), Outcome.FAILED)
    await recorder.record("damaged", _restore(recorder, "db", "db-2"), Outcome.FAILED)
    await recorder.record("damaged", _health(recorder, HealthTask.SCRUB), Outcome.FAILED)
    read_back = BackupOptions(credential=CREDENTIAL, verify_increments=True, on_broken_chain=BrokenChain.FAIL)
    await recorder.record("read-again", nightly(recorder, "db", options=read_back), Outcome.SUCCESS)
    file.write_bytes(content[: len(content) // 2])
    options = BackupOptions(credential=CREDENTIAL, machines_at_once=1)
    await recorder.record("failed-machine", nightly(recorder, *_MACHINES, options=options), Outcome.FAILED)
    asking = msgspec.structs.replace(options, on_broken_chain=BrokenChain.ASK)
    await recorder.record_decided("asked", nightly(recorder, "db", options=asking), BrokenChain.FULL)


async def record_retention(recorder: Recorder, settings: Settings) -> None:
    """Sessions that look after chains, of a machine of their own."""
    provider = LocalProvider(settings.home.parent / "hypervisor", SystemClock())
    disk = settings.home.parent / "kept.raw"
    disk.write_bytes(random.Random(9).randbytes(_DISK_BYTES))  # noqa: S311 - the same bytes each time
    machine_id = provider.add_machine("kept", {DISK: disk}).machine_id
    for _ in range(2):
        await (await recorder.start(nightly(recorder, "kept"))).result()
    await recorder.record("retention-held", backup_with_retention(nightly(recorder, "kept")), Outcome.WARNING)
    agreed = retention_as_shown(REPOSITORY, machine_id, "kept", recorder.session_id())
    await recorder.record("success", agreed, Outcome.SUCCESS)
    await recorder.record("retention", backup_with_retention(nightly(recorder, "kept")), Outcome.SUCCESS)
    await (await recorder.start(nightly(recorder, "kept"))).result()
    agreed = retention_as_shown(REPOSITORY, machine_id, "kept", recorder.session_id())
    await recorder.record_cancelled("cancelled", agreed, "retention.carry_out", "upkeep.announced")
    gone = retention_as_shown(REPOSITORY, machine_id, "kept", recorder.session_id(), is_gone=True)
    await recorder.record("gone", gone, Outcome.SUCCESS)


async def _record_slots(recorder: Recorder, settings: Settings) -> None:
    """Sessions that ask the scheduler for slots, of a machine with more disks than there are."""
    provider = LocalProvider(settings.home.parent / "hypervisor", SystemClock())
    disks = {}
    for number in range(3):
        disk = settings.home.parent / f"wide-{number}.raw"
        disk.write_bytes(random.Random(number).randbytes(_DISK_BYTES))  # noqa: S311 - the same bytes each time
        disks[DiskKey(f"data{number}")] = disk
    provider.add_machine("wide", disks)
    resources = resources_of(settings.repositories[0], settings.proxies)
    backup = nightly(recorder, "wide", options=BackupOptions(credential=CREDENTIAL))
    await recorder.record("slots", _with_resources(backup, resources), Outcome.SUCCESS)
    restore = _restore(recorder, "wide", "wide-2")
    await recorder.record("slots", _with_resources(restore, resources), Outcome.SUCCESS)
    await recorder.record_last("success", SCHEDULER_ID)


def _with_resources(start: Start, resources: Resources) -> Start:
    return msgspec.structs.replace(start, request=msgspec.structs.replace(start.request, resources=resources))


async def _record_sweeps(recorder: Recorder, settings: Settings) -> None:
    provider = ProviderPool(settings, SystemClock(), settings.credentials).open(PROVIDER)
    web = provider.machine("web")
    over = session_tag(SessionId("s0001"))
    for tag in (over, session_tag(SessionId("of somebody else"))):
        provider.create_snapshot(web.machine_id, tag)
    # A session that was over before; the target of another one is not known here.
    copy = msgspec.structs.replace(web, name="web-of-another")
    provider.prepare_target(session_tag(SessionId("another")), copy, web.disks, None)
    await recorder.record("success", _sweep(recorder, PROVIDER), Outcome.SUCCESS)
    with attached(web, over):
        await recorder.record("attached-disk", _sweep(recorder, PROVIDER), Outcome.SUCCESS)
    await recorder.record("unknown-provider", _sweep(recorder, ProviderName("nowhere")), Outcome.FAILED)


def nightly(
    recorder: Recorder, *machines: str, options: BackupOptions | None = None, upkeep: UpkeepOptions | None = None
) -> Start:
    """Return the next session of the job that histories are of."""
    return backup_start(
        BackupRequest(
            job=JobName("nightly"),
            provider=PROVIDER,
            proxy=PROXY,
            repository=REPOSITORY,
            machines=machines,
            options=options if options is not None else BackupOptions(),
            session_id=recorder.session_id(),
            upkeep=upkeep,
        )
    )


def _restore(recorder: Recorder, machine: str, new_name: str | None) -> Start:
    return restore_start(
        RestoreRequest(
            session_id=recorder.session_id(),
            repository=REPOSITORY,
            provider=PROVIDER,
            proxy=PROXY,
            machine=machine,
            new_name=new_name,
            credential=CREDENTIAL,
        )
    )


def _roll_back(recorder: Recorder, machine: str, new_name: str | None = None) -> Start:
    request = _restore(recorder, machine, new_name).request
    return restore_start(msgspec.structs.replace(request, is_quick=True))


def _compare(recorder: Recorder, machine: str, *, into: str) -> Start:
    """Write what differs over the disk of another machine."""
    request = _restore(recorder, machine, None).request
    changes: dict[str, Any] = {"into": into, "disks": (DISK,), "over": (DISK,), "delta": Delta.ALWAYS}
    return restore_start(msgspec.structs.replace(request, **changes))


def _verify(recorder: Recorder) -> Start:
    return verify_start(VerifyRequest(session_id=recorder.session_id(), repository=REPOSITORY, credential=CREDENTIAL))


def _health(recorder: Recorder, task: HealthTask) -> Start:
    return health_start(
        HealthRequest(
            session_id=recorder.session_id(), repository=REPOSITORY, task=task, days=1, credentials=(CREDENTIAL,)
        )
    )


def _sweep(recorder: Recorder, provider: ProviderName) -> Start:
    return sweep_start(SweepRequest(provider=provider, proxy=PROXY, age_min_s=0, session_id=recorder.session_id()))


async def main(folder: Path, record: Callable[[Client, Settings, Path], Awaitable[None]] = record_all) -> None:
    """Record into ``folder``, which exists."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        settings = settings_in(root)
        server = DevServer(root / "temporal", DevServerSettings(is_headless=True))
        try:
            address = await asyncio.to_thread(server.start)
            settings = msgspec.structs.replace(
                settings, temporal=msgspec.structs.replace(settings.temporal, address=address.grpc)
            )
            # Not `connect`: the identity must not tell which host this was.
            client = await Client.connect(
                address.grpc, namespace=address.namespace, identity=_IDENTITY, plugins=[project_plugin()]
            )
            await record(client, settings, folder)
        finally:
            await asyncio.to_thread(server.kill)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
