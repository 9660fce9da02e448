"""A hypervisor, a repository and a catalog in one folder, and attempts at activities over them."""

import dataclasses
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.contracts import repository as points
from activities.contracts import snapshot as snapshots
from activities.contracts import target as targets
from activities.contracts.transfer import CopyDisk, DiskCopied, DiskRestored, RestoreDisk, TransferCursor
from activities.health import HealthActivities
from activities.machine_files import MachineFileActivities
from activities.point_disks import PointDisks
from activities.repository import RepositoryActivities, UpkeepActivities
from activities.rollback import RollbackActivities
from activities.snapshot import SnapshotActivities
from activities.target import TargetActivities
from activities.transfer import TransferActivities
from activities.turns import Turns
from holdfast.catalog.database import Catalog
from holdfast.errors import ConfigurationInvalid, HoldfastError, RepositoryNotFound
from holdfast.formats.contents import PointDisk
from holdfast.model.ids import CredentialName, DiskKey, MachineId, ProviderName, RepositoryName, SessionId
from holdfast.model.machine import Machine, PowerState, RestoreTarget, Snapshot
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.model.session import Figures
from holdfast.mover.client import MoverClient
from holdfast.pipeline.stages import PipeOptions
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from workers.credentials import Credentials

KIB = 1 << 10
PIECE = 64 * KIB
UNIT = 256 * KIB
KEY = DiskKey("disk0")
PROVIDER = ProviderName("lab")
STORE = RepositoryName("store")
CREDENTIAL = CredentialName("vault")
TOKEN = "t1"
ANOTHER_TOKEN = "t2"
EAGER = PipeOptions(
    threads=1, in_flight_bytes=2 * UNIT, commit_new_bytes=UNIT, uncommitted_bytes_max=UNIT, commit_interval_s=0
)
"""A commit after every unit, and nothing is read far ahead."""

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class HurriedClock:
    """Lets a second pass at every look, so that no report is held back."""

    def __init__(self) -> None:
        self._seconds = 1_700_000_000

    def now(self) -> datetime:
        return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic_s())

    def monotonic_s(self) -> float:
        self._seconds += 1
        return float(self._seconds)


class StillClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic_s(self) -> float:
        return self.seconds


class Attempt:
    """One attempt at an activity; ``previous`` is the last report of the attempt before."""

    def __init__(self, previous: object = None) -> None:
        self.environment = ActivityEnvironment()
        self.beats: list[object] = []
        self.on_beat: Callable[[object], None] = lambda _: None
        if previous is not None:
            details = [msgspec.to_builtins(previous)]
            self.environment.info = dataclasses.replace(self.environment.info, attempt=2, heartbeat_details=details)
        self.environment.on_heartbeat = self._beat

    def run(self, serve: Callable[[_Request], _Reply], request: _Request) -> _Reply:
        return self.environment.run(serve, request)

    def _beat(self, *details: object) -> None:
        for cursor in details:
            self.beats.append(cursor)
            self.on_beat(cursor)


def run(serve: Callable[[_Request], _Reply], request: _Request) -> _Reply:
    """Return the reply of a first attempt."""
    return Attempt().run(serve, request)


def run_twice(serve: Callable[[_Request], _Reply], request: _Request) -> _Reply:
    """Return the reply, which a second attempt gives too."""
    reply = run(serve, request)
    assert run(serve, request) == reply
    return reply


def failure(
    expected: type[HoldfastError],
    serve: Callable[[_Request], _Reply],
    request: _Request,
    attempt: Attempt | None = None,
) -> ApplicationError:
    """Return how an attempt fails, as workflows see it."""
    with pytest.raises(ApplicationError) as caught:
        (attempt or Attempt()).run(serve, request)
    assert caught.value.type == expected.code, caught.value
    return caught.value


def without_times(reply: DiskCopied | DiskRestored) -> DiskCopied | DiskRestored:
    """Return the reply without what every attempt adds to: seconds, and the page that its last commit takes."""
    kept = ("size_bytes", "processed_bytes", "read_bytes", "transferred_bytes", "resent_bytes")
    figures = Figures(**{name: getattr(reply.figures, name) for name in kept})
    return msgspec.structs.replace(reply, figures=figures, busy={}, bottleneck="")


def cursors(attempt: Attempt) -> list[TransferCursor]:
    assert all(isinstance(beat, TransferCursor) for beat in attempt.beats)
    return [beat for beat in attempt.beats if isinstance(beat, TransferCursor)]


def stopping(stop: Callable[[ActivityEnvironment], None], units: int = 2) -> Attempt:
    """Return an attempt that is told to stop once this many units are committed."""
    attempt = Attempt()

    def stop_at(cursor: object) -> None:
        assert isinstance(cursor, TransferCursor)
        if cursor.committed_bytes >= units * UNIT:
            stop(attempt.environment)

    attempt.on_beat = stop_at
    return attempt


def write_disk(path: Path, chance: random.Random, size_bytes: int) -> Path:
    """Fill a new disk with random bytes around a hole in the middle."""
    third = size_bytes // PIECE // 3 * PIECE
    with path.open("xb") as disk:
        disk.write(chance.randbytes(third))
        disk.seek(2 * third)
        disk.write(chance.randbytes(size_bytes - 2 * third))
    return path


class Lab:
    """The world of the activities; machines have one disk."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self.clock = HurriedClock()
        self.provider = LocalProvider.create(root / "provider", self.clock)
        self.repository = Repository.create(root / "repository", HostFiles(), "id", self.clock.now())
        self.credentials = Credentials(root / "credentials")
        self.credentials.folder.mkdir()
        secret = self.credentials.folder / CREDENTIAL
        secret.touch(mode=0o600)
        secret.write_text("correct horse\n")
        passphrases = self.credentials.passphrase
        self.snapshots = SnapshotActivities(self.open_provider, self.clock)
        self.targets = TargetActivities(self.open_provider, self.clock)
        self.points = RepositoryActivities(self.open_repository, passphrases, self.clock)
        self.upkeep = UpkeepActivities(self.open_repository, passphrases, self.clock)
        self.health = HealthActivities(self.open_repository, passphrases, self.clock)
        points = PointDisks(self.open_repository, passphrases, MoverClient(None, self.clock).line, self.clock, EAGER)
        self.rollbacks = RollbackActivities(self.open_provider, points, self.clock)
        self.machine_files = MachineFileActivities(self.open_provider, points, self.clock)
        self.turns = Turns(self.clock, pause=lambda _: None)  # this clock goes on by being looked at
        self.transfers = TransferActivities(self.open_provider, points, self.clock, EAGER, self.turns)

    def open_provider(self, name: ProviderName) -> LocalProvider:
        if name != PROVIDER:
            raise ConfigurationInvalid(f"no provider {name}")
        return self.provider

    def open_repository(self, name: RepositoryName) -> Repository:
        if name != STORE:
            raise RepositoryNotFound(f"no repository {name}")
        return Repository.open(self.root / "repository", HostFiles())

    def open_catalog(self) -> Catalog:
        return Catalog.open(f"sqlite:///{self.root / 'catalog.db'}", self.clock)

    # Machines

    def add_machine(self, name: str = "web 01", size_bytes: int = 20 * PIECE + 512) -> Machine:
        path = write_disk(self.root / f"{name}.raw", self.chance, size_bytes)
        return self.provider.add_machine(name, {KEY: path})

    def disk_path(self, machine: Machine) -> Path:
        return self.provider.disk_paths(machine.machine_id)[KEY]

    def content(self, machine: Machine) -> bytes:
        return self.disk_path(machine).read_bytes()

    def overwrite(self, machine: Machine, offset: int, length: int) -> None:
        with self.disk_path(machine).open("r+b") as disk:
            disk.seek(offset)
            disk.write(self.chance.randbytes(length))

    # The steps of a backup and of a restore, by their activities

    def freeze(self, machine: Machine, tag: str = "s1") -> Snapshot:
        request = snapshots.CreateSnapshot(provider=PROVIDER, machine_id=machine.machine_id, tag=tag)
        return run(self.snapshots.create_snapshot, request)

    def begin_request(self, snapshot: Snapshot, credential: CredentialName | None = None) -> points.BeginPoint:
        return points.BeginPoint(
            repository=STORE,
            session_id=SessionId(snapshot.tag),
            snapshot=snapshot,
            unit_size=UNIT,
            credential=credential,
        )

    def begin(self, snapshot: Snapshot) -> OpenPoint:
        return run(self.points.begin_point, self.begin_request(snapshot))

    def copy_request(self, snapshot: Snapshot, point: OpenPoint) -> CopyDisk:
        return CopyDisk(
            provider=PROVIDER,
            machine_id=snapshot.machine_id,
            snapshot_id=snapshot.snapshot_id,
            disk=KEY,
            repository=STORE,
            point=point,
            is_only_disk=True,
        )

    def begun(self, machine: Machine, tag: str = "s1") -> CopyDisk:
        """Return the request for the disk of a point that has just been begun."""
        snapshot = self.freeze(machine, tag)
        return self.copy_request(snapshot, self.begin(snapshot))

    def finish(self, point: OpenPoint, credential: CredentialName | None = None) -> PointSummary:
        request = points.FinishPoint(repository=STORE, point=point, credential=credential)
        return run(self.points.finish_point, request)

    def back_up(self, machine: Machine, tag: str = "s1") -> tuple[DiskCopied, PointSummary]:
        request = self.begun(machine, tag)
        copied = run(self.transfers.copy_disk, request)
        return copied, self.finish(request.point)

    def prepare(self, machine: Machine, token: str = TOKEN, replaces: MachineId | None = None) -> RestoreTarget:
        return run(self.targets.prepare_target, self.prepare_request(machine, token, replaces))

    def prepare_request(
        self, machine: Machine, token: str = TOKEN, replaces: MachineId | None = None
    ) -> targets.PrepareTarget:
        name = machine.name if replaces is not None else f"{machine.name} copy"
        wanted = msgspec.structs.replace(machine, name=name)
        return targets.PrepareTarget(
            provider=PROVIDER, token=token, machine=wanted, disks=machine.disks, replaces=replaces
        )

    def restore_request(self, target: RestoreTarget, point: PointSummary, *, compare: bool = True) -> RestoreDisk:
        return RestoreDisk(
            provider=PROVIDER,
            target_id=target.target_id,
            disk=KEY,
            repository=STORE,
            chain=point.chain,
            number=point.number,
            compare=compare,
        )

    def commit(self, target: RestoreTarget, power: PowerState = PowerState.OFF) -> Machine:
        request = targets.CommitTarget(provider=PROVIDER, target_id=target.target_id, power=power)
        return run(self.targets.commit_target, request)

    def restored(self, machine: Machine, point: PointSummary, token: str = ANOTHER_TOKEN) -> bytes:
        """Return the content of a new machine restored from a point."""
        target = self.prepare(machine, token)
        run(self.transfers.restore_disk, self.restore_request(target, point))
        return self.content(self.commit(target))

    def target_disk(self) -> Path:
        """Return the file of the only prepared disk."""
        (path,) = (self.root / "provider" / "targets").glob("*/machine/*.raw")
        return path

    # Looking into the repository

    def committed_bytes(self, request: CopyDisk) -> int:
        """Return how much of a disk the chain file on storage holds now."""
        disk = self.disk_of(request)
        return min(disk.done * PIECE, disk.size)

    def disk_of(self, request: CopyDisk) -> PointDisk:
        """Return the disk as the chain file on storage has it now."""
        with self.repository.open_chain(request.point.chain, None) as chain:
            [point] = [point for _, point in chain.points() if point.number == request.point.number]
        disk = point.disk(request.disk)
        assert disk is not None
        return disk

    def chain_file(self, point: OpenPoint | PointSummary) -> Path:
        return self.repository.chain_file(point.chain, point.file)

    def chain_files(self) -> list[str]:
        return sorted(path.name for path in (self.root / "repository").rglob("*.hfc*"))
