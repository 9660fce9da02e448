"""A provider, a repository and a catalog in one folder, and attempts of activities on them."""

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from temporalio.testing import ActivityEnvironment

from activities.contracts import repository as repository_contract
from activities.contracts import snapshot as snapshot_contract
from activities.contracts.transfer import CopyDisk, DiskCopied, TransferCursor
from activities.repository import RepositoryActivities, UpkeepActivities
from activities.snapshot import SnapshotActivities
from activities.target import TargetActivities
from activities.transfer import TransferActivities
from holdfast.clock import SystemClock
from holdfast.errors import CredentialMissing, RepositoryNotFound
from holdfast.faults import set_hook
from holdfast.formats.keys import PassphraseCost
from holdfast.model.ids import CredentialName, DiskKey, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import Machine, Snapshot
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.pipeline.stages import PipeOptions
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.atomic import HostFiles
from holdfast.storage.repository import Repository

LAB = ProviderName("lab")
VAULT = RepositoryName("vault")
MIB = 1 << 20

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class Attempt:
    """One attempt of an activity. ``cursor`` is what the attempt before reported last."""

    def __init__(self, cursor: object = None) -> None:
        self.environment = ActivityEnvironment()
        details = [] if cursor is None else [cursor]
        self.environment.info = dataclasses.replace(self.environment.info, heartbeat_details=details)
        self.environment.on_heartbeat = lambda *reported: self.reports.extend(reported)
        self.reports: list[Any] = []

    def run(self, method: Callable[[_Request], _Reply], request: _Request) -> _Reply:
        return self.environment.run(method, request)

    @property
    def cursor(self) -> TransferCursor:
        """Return what was reported last."""
        assert isinstance(self.reports[-1], TransferCursor)
        return self.reports[-1]


class Lab:
    """What activities are given, over real folders."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.clock = SystemClock()
        self.random = random.Random(seed)
        self.provider = LocalProvider.create(folder / "lab", self.clock)
        self.vault = folder / "vault"
        Repository.create(self.vault, HostFiles(), "r1", self.clock.now())
        self.passphrases = {"secret": "correct horse"}
        self.snapshots = SnapshotActivities(self.open_provider, self.clock)
        self.targets = TargetActivities(self.open_provider, self.clock)
        self.points = RepositoryActivities(self.open_repository, self.passphrase, self.clock)
        self.upkeep = UpkeepActivities(self.open_repository, self.passphrase, self.clock)
        small = PipeOptions(commit_new_bytes=2 * MIB, uncommitted_bytes_max=4 * MIB, commit_interval_s=0.01)
        self.transfers = TransferActivities(
            self.open_provider, self.open_repository, self.passphrase, self.clock, small
        )

    def open_provider(self, name: ProviderName) -> LocalProvider:
        assert name == LAB
        return self.provider

    def open_repository(self, name: RepositoryName) -> Repository:
        if name != VAULT:
            raise RepositoryNotFound(f"the configuration has no repository {name}")
        return Repository.open(self.vault, HostFiles())

    def passphrase(self, name: CredentialName | None) -> str | None:
        if name is None:
            return None
        if name not in self.passphrases:
            raise CredentialMissing(f"no credential {name}")
        return self.passphrases[name]

    def machine(self, name: str = "web", sizes: tuple[int, ...] = (8 * MIB,)) -> Machine:
        """Add a machine whose disks hold half random bytes, half zeros."""
        disks = {}
        for number, size in enumerate(sizes):
            path = self.folder / f"{name}-{number}.raw"
            path.write_bytes(self.random.randbytes(size // 2) + bytes(size - size // 2))
            disks[DiskKey(f"disk{number}")] = path
        return self.provider.add_machine(name, disks)

    def disk(self, machine: Machine, number: int = 0) -> Path:
        return self.folder / f"{machine.name}-{number}.raw"

    def change(self, machine: Machine, offset: int, length: int, number: int = 0) -> None:
        """Write random bytes to a disk."""
        with self.disk(machine, number).open("r+b") as file:
            file.seek(offset)
            file.write(self.random.randbytes(length))

    def freeze(self, machine: Machine, session: str) -> Snapshot:
        request = snapshot_contract.CreateSnapshot(provider=LAB, machine_id=machine.machine_id, tag=f"t-{session}")
        return Attempt().run(self.snapshots.create_snapshot, request)

    def begin(self, frozen: Snapshot, session: str, **options: Any) -> OpenPoint:
        request = repository_contract.BeginPoint(
            repository=VAULT, session_id=SessionId(session), snapshot=frozen, **options
        )
        return Attempt().run(self.points.begin_point, request)

    def finish(self, opened: OpenPoint, credential: str | None = None) -> PointSummary:
        name = None if credential is None else CredentialName(credential)
        request = repository_contract.FinishPoint(repository=VAULT, point=opened, credential=name)
        return Attempt().run(self.points.finish_point, request)

    def abandon(self, frozen: Snapshot, session: str) -> tuple[str, ...]:
        request = repository_contract.AbandonPoint(repository=VAULT, session_id=SessionId(session), snapshot=frozen)
        return Attempt().run(self.points.abandon_point, request).removed

    def back_up(self, machine: Machine, session: str, **options: Any) -> tuple[PointSummary, list[DiskCopied]]:
        """Make a point of a machine."""
        frozen = self.freeze(machine, session)
        opened = self.begin(frozen, session, **options)
        credential = options.get("credential")
        copied = [
            Attempt().run(self.transfers.copy_disk, copy_request(frozen, opened, disk.key, credential=credential))
            for disk in frozen.disks
        ]
        point = self.finish(opened, credential)
        self.provider.remove_snapshot(machine.machine_id, frozen.snapshot_id)
        return point, copied


def copy_request(frozen: Snapshot, opened: OpenPoint, disk: str = "disk0", **more: Any) -> CopyDisk:
    return CopyDisk(
        provider=LAB,
        machine_id=frozen.machine_id,
        snapshot_id=frozen.snapshot_id,
        disk=DiskKey(disk),
        repository=VAULT,
        point=opened,
        **more,
    )


class Fault:
    """Does something when a fault point is reached for the ``nth`` time; a context manager."""

    def __init__(self, name: str, nth: int, action: Callable[[], None]) -> None:
        self._name = name
        self._left = nth
        self._action = action

    def __enter__(self) -> "Fault":
        set_hook(self._reached)
        return self

    def __exit__(self, *_: object) -> None:
        set_hook(None)

    @property
    def is_reached(self) -> bool:
        return self._left <= 0

    def _reached(self, name: str) -> None:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                self._action()


class Killed(BaseException):
    """Stands for a process that dies: nothing catches it."""


def die() -> None:
    raise Killed


CHEAP = PassphraseCost(memory_kib=1024, iterations=1, lanes=1)
