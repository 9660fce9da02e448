"""Disks of points come through the repository's mover: the proxy opens no repository and knows no passphrase."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from activities.contracts import repository as points
from activities.contracts.repository import AbandonPoint, FindPoint
from activities.contracts.transfer import CopyDisk, RestoreDisk
from activities.point_disks import PointDisks, attempt_number
from activities.repository import RepositoryActivities
from activities.transfer import TransferActivities
from holdfast.clock import SystemClock
from holdfast.errors import (
    ChainBusy,
    DiskMoved,
    LinkError,
    LinkLost,
    LinkRefused,
    PointNotFound,
    RepositoryNotFound,
    RequestInvalid,
    WriterFenced,
)
from holdfast.formats.mover.events import LinkOptions
from holdfast.model.ids import CredentialName, DiskKey, RepositoryName, SessionId
from holdfast.model.machine import Machine
from holdfast.model.points import FoundPoint, MoverAccess, PointSummary
from holdfast.mover.client import MoverClient
from holdfast.mover.remote_source import RemoteSource
from holdfast.pipeline.sink import WritableDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.chain_lock import acquire_chain_lock
from tests.activities.lab import CREDENTIAL, EAGER, KEY, PIECE, PROVIDER, STORE, Attempt, Lab, failure, run
from workers.config import Settings
from workers.loopback import LOOPBACK, free_ports
from workers.movers import Movers
from workers.repository_settings import RepositorySettings

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")
START = datetime(2026, 1, 1, tzinfo=UTC)


def no_repository(name: RepositoryName) -> Repository:
    raise RepositoryNotFound(f"the proxy has no repository {name}")


def no_passphrase(name: CredentialName | None) -> str | None:
    raise AssertionError(f"the proxy looked for passphrase {name}")


class Site:
    """The repository's worker with a mover, and a proxy that has the mover alone."""

    def __init__(self, lab: Lab, movers: Movers) -> None:
        self.lab = lab
        clock = SystemClock()
        self.points = RepositoryActivities(lab.open_repository, lab.credentials.passphrase, clock, movers)
        self.disks = PointDisks(
            no_repository, no_passphrase, MoverClient(None, clock, LinkOptions(redial_s=0.1)).line, clock, EAGER
        )
        self.transfers = TransferActivities(lab.open_provider, self.disks, clock, EAGER)
        self._attempts = 0

    def begin(self, machine: Machine, tag: str, credential: CredentialName | None = None) -> CopyDisk:
        """Return the request for the disk of a point that was begun."""
        snapshot = self.lab.freeze(machine, tag)
        opened = run(self.points.begin_point, self.lab.begin_request(snapshot, credential))
        return msgspec.structs.replace(self.lab.copy_request(snapshot, opened), credential=credential)

    def finish(self, request: CopyDisk) -> PointSummary:
        finish = points.FinishPoint(repository=STORE, point=request.point, credential=request.credential)
        return run(self.points.finish_point, finish)

    def back_up(self, machine: Machine, tag: str, credential: CredentialName | None = None) -> PointSummary:
        request = self.begin(machine, tag, credential)
        self.run(self.transfers.copy_disk, request)
        return self.finish(request)

    def find(self, point: PointSummary, credential: CredentialName | None = None) -> FoundPoint:
        find = FindPoint(repository=STORE, reference=point.point_id, machine=None, credential=credential)
        return run(self.points.find_point, find)

    def run(self, serve: Callable[[_Request], _Reply], request: _Request) -> _Reply:
        """Return the reply of one attempt; each begins, by the clock, a minute before the one before."""
        return self.attempt().run(serve, request)

    def attempt(self) -> Attempt:
        self._attempts += 1
        attempt = Attempt()
        started = START - timedelta(minutes=self._attempts)
        attempt.environment.info = dataclasses.replace(
            attempt.environment.info, attempt=self._attempts, started_time=started
        )
        return attempt

    def write(self, request: CopyDisk, stack: ExitStack) -> WritableDisk:
        """Open the disk of a point as an activity does."""
        return self.run(lambda wanted: self.disks.open_for_writing(wanted, "", stack), request)

    def is_locked(self, request: CopyDisk) -> bool:
        repository = self.lab.repository
        try:
            acquire_chain_lock(repository.files, repository.chain_folder(request.point.chain)).close()
        except ChainBusy:
            return True
        return False


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    [port] = free_ports(1)
    store = RepositorySettings(name=STORE, path=tmp_path / "repository", mover=f"{LOOPBACK}:{port}")
    settings = Settings(home=tmp_path / "home", repositories=(store,))
    movers = Movers(settings, lab.open_repository, lab.credentials.passphrase, SystemClock())
    with movers.serving([STORE]):
        yield Site(lab, movers)


@pytest.mark.parametrize("credential", [None, CREDENTIAL])
def test_points_are_written_and_read_through_the_mover(site: Site, credential: CredentialName | None) -> None:
    lab = site.lab
    machine = lab.add_machine()
    site.back_up(machine, "s1", credential)
    lab.overwrite(machine, 3 * PIECE, PIECE)
    content = lab.content(machine)
    point = site.back_up(machine, "s2", credential)
    lab.overwrite(machine, 3 * PIECE, PIECE)
    assert point.kind == "increment"
    target = lab.prepare(machine)
    found = site.find(point, credential)
    restore = msgspec.structs.replace(lab.restore_request(target, point), credential=credential, mover=found.mover)
    site.run(site.transfers.restore_disk, restore)
    assert lab.content(lab.commit(target)) == content


def test_only_units_with_pieces_that_differ_come_over_the_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = site.lab
    machine = lab.add_machine(size_bytes=48 * PIECE)
    content = lab.content(machine)
    found = site.find(point := site.back_up(machine, "s1"))
    lab.overwrite(machine, 5 * PIECE, 10)
    lab.overwrite(machine, 40 * PIECE, 10)
    target = lab.provider.prepare_in_place("t1", machine.machine_id, machine.disks)
    fetched: list[int] = []
    fetch = RemoteSource.fetch

    def counted(
        source: RemoteSource, file: int, number: int, pool: Executor, key: bytes
    ) -> "Future[bytes | memoryview]":
        fetched.append(number)
        return fetch(source, file, number, pool, key)

    monkeypatch.setattr(RemoteSource, "fetch", counted)
    restore = msgspec.structs.replace(lab.restore_request(target, point), mover=found.mover, begins_with_content=True)
    done = site.run(site.transfers.restore_disk, restore)
    assert len(fetched) == 2
    assert done.written_bytes == 2 * PIECE
    assert lab.content(lab.commit(target)) == content


def test_without_a_mover_the_repository_is_opened(site: Site) -> None:
    machine = site.lab.add_machine()
    request = site.lab.begun(machine)
    assert request.point.mover is None
    failure(RepositoryNotFound, site.transfers.copy_disk, request, site.attempt())


def test_an_attempt_that_shall_stop_does_not_wait_for_a_mover_that_is_away(site: Site) -> None:
    request = site.begin(site.lab.add_machine(), "s1")
    assert request.point.mover is not None
    [nobody] = free_ports(1)
    mover = msgspec.structs.replace(request.point.mover, address=f"{LOOPBACK}:{nobody}")
    away = msgspec.structs.replace(request, point=msgspec.structs.replace(request.point, mover=mover))
    attempt = site.attempt()
    attempt.environment.cancel()
    with pytest.raises(CancelledError):
        attempt.run(site.transfers.copy_disk, away)


def test_a_disk_without_access_is_refused(site: Site) -> None:
    request = site.begin(site.lab.add_machine(), "s1")
    strange = msgspec.structs.replace(request, disk=DiskKey("disk9"))
    with ExitStack() as stack, pytest.raises(LinkRefused, match="gave no access to disk disk9"):
        site.write(strange, stack)
    assert not site.is_locked(request)


def test_access_to_write_reads_nothing(site: Site) -> None:
    request = site.begin(site.lab.add_machine(), "s1")
    site.run(site.transfers.copy_disk, request)
    point = site.finish(request)
    restore = RestoreDisk(
        provider=PROVIDER,
        target_id=site.lab.prepare(site.lab.provider.machine("web 01")).target_id,
        disk=KEY,
        repository=STORE,
        chain=point.chain,
        number=point.number,
        mover=request.point.mover,
    )
    failed = failure(RequestInvalid, site.transfers.restore_disk, restore, site.attempt())
    assert failed.message == f"point 1 of {point.file} is complete"


def test_a_disk_that_goes_on_moving_is_left_to_another_session(site: Site) -> None:
    request = site.begin(site.lab.add_machine(), "s1")

    def opened_at(place: str) -> int:
        with ExitStack() as stack:
            disk = site.run(lambda wanted: site.disks.open_for_writing(wanted, place, stack), request)
            disk.sink.zero(0, -(-disk.sink.size_bytes // PIECE))
            disk.sink.finish()
            return disk.moves

    assert [opened_at(f"[{place}]") for place in "abc"] == [0, 1, 2]
    with pytest.raises(DiskMoved, match="for the third time") as caught:
        opened_at("[d]")
    assert caught.value.is_last


def test_what_a_dead_proxy_holds_is_let_go_when_its_point_is_abandoned(site: Site) -> None:
    machine = site.lab.add_machine()
    request = site.begin(machine, "s1")
    with ExitStack() as stack:
        disk = site.write(request, stack)
        assert site.is_locked(request)
        snapshot = site.lab.freeze(machine)
        abandon = AbandonPoint(repository=STORE, session_id=SessionId(snapshot.tag), snapshot=snapshot)
        removed = run(site.points.abandon_point, abandon).removed
        assert removed == (request.point.file,)
        assert not site.is_locked(request)
        with pytest.raises(LinkLost, match="does not know the session any more"):
            disk.sink.finish()
    with ExitStack() as stack, pytest.raises(PointNotFound):
        site.write(request, stack)


def test_the_next_session_of_a_machine_does_not_wait_for_a_dead_proxy(site: Site) -> None:
    machine = site.lab.add_machine()
    request = site.begin(machine, "s1")
    with ExitStack() as stack:
        site.write(request, stack)
        second = site.begin(machine, "s2")
        assert second.point.removed == (request.point.file,)
        site.run(site.transfers.copy_disk, second)
    assert site.lab.restored(machine, site.finish(second)) == site.lab.content(machine)


def test_a_disk_goes_on_when_the_clock_was_set_back_between_two_attempts(site: Site) -> None:
    request = site.begin(machine := site.lab.add_machine(), "s1")
    with ExitStack() as stack:
        dead = site.write(request, stack)  # and does not let go
        site.run(site.transfers.copy_disk, request)
        with pytest.raises((LinkError, WriterFenced)):
            dead.sink.finish()
    assert site.lab.restored(machine, site.finish(request)) == site.lab.content(machine)


def test_the_first_attempt_at_another_proxy_comes_after_many_at_the_lost_one(site: Site) -> None:
    request = site.begin(machine := site.lab.add_machine(), "s1")
    with ExitStack() as stack:
        for _ in range(3):
            site.write(request, stack)
        first = Attempt()
        assert first.environment.info.attempt == 1
        first.run(site.transfers.copy_disk, used_again(request))
    assert site.lab.restored(machine, site.finish(request)) == site.lab.content(machine)


def used_again(request: CopyDisk) -> CopyDisk:
    """Return a request as the workflow gives it to another proxy."""
    assert request.point.mover is not None
    mover = msgspec.structs.replace(request.point.mover, use=request.point.mover.use + 1)
    return msgspec.structs.replace(request, point=msgspec.structs.replace(request.point, mover=mover))


def test_a_later_attempt_has_a_higher_number() -> None:
    def number(use: int, attempt: int) -> int:
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, attempt=attempt)
        mover = MoverAccess(address="repo:1", has_tls=True, disks=(), use=use)
        return environment.run(attempt_number, mover)

    many = 1 << 40
    numbers = [number(use, attempt) for use in (0, 1, 2, 70) for attempt in (1, 2, 30, many)]
    assert sorted(set(numbers)) == numbers
    assert numbers[0] == 1
    assert number(many, many) < 1 << 32, "as the greeting takes it"
