"""The movers of a worker: whom they serve, what they give access to, and what ends their sessions."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationInvalid, LinkLost
from holdfast.formats.magic import PIECE_SIZE
from holdfast.formats.mover.events import LinkOptions
from holdfast.model.ids import DiskKey, RepositoryName, SessionId
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.points import DiskAccess, MoverAccess, OpenPoint
from holdfast.mover.client import MoverClient
from holdfast.mover.file_transfer import put_remote_files
from holdfast.mover.grants import FILES, Grant
from holdfast.mover.line import Line
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.pipeline.sink import WritableDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from tests.holdfast.mover.movers import until
from tests.holdfast.storage.driving import KEY, snapshot_of
from workers.config import Settings
from workers.loopback import LOOPBACK, free_ports
from workers.mover_settings import PATIENCE_MAX_S, MoverSettings
from workers.movers import Movers, mover_client, server_context
from workers.repository_settings import RepositorySettings

VAULT, PLAIN = RepositoryName("vault"), RepositoryName("plain")
CLOCK = SystemClock()
SIZE = 4 * PIECE_SIZE


class World:
    """Two repositories of one worker, one of which has a mover."""

    def __init__(self, root: Path) -> None:
        [port] = free_ports(1)
        self.address = f"{LOOPBACK}:{port}"
        self.settings = Settings(
            home=root / "home",
            repositories=(
                RepositorySettings(name=VAULT, path=root / "vault", mover=self.address),
                RepositorySettings(name=PLAIN, path=root / "plain"),
            ),
        )
        for repository in self.settings.repositories:
            Repository.create(repository.path, HostFiles(), "id", CLOCK.now())
        self.movers = self.restarted()

    def restarted(self) -> Movers:
        """Return the movers of another process of the same worker."""
        return Movers(self.settings, self.open, lambda _: None, CLOCK)

    def set_vault(self, **changes: object) -> None:
        """Start the worker again with other settings of the repository that has the mover."""
        vault, plain = self.settings.repositories
        repositories = (msgspec.structs.replace(vault, **changes), plain)
        self.settings = msgspec.structs.replace(self.settings, repositories=repositories)
        self.movers = self.restarted()

    def connections(self) -> int:
        """Return how many connections the mover has in its only session."""
        [server] = self.movers._servers
        [session] = server._sessions.values()
        return session.line.counters.connections_made

    def open(self, name: RepositoryName) -> Repository:
        return Repository.open(self.settings.repository(name).path, HostFiles())

    def begin(self, session: str = "s1", number: int = 1) -> OpenPoint:
        snapshot = snapshot_of(bytes(SIZE), number)
        return begin_point(self.open(VAULT), SessionId(session), snapshot, StoreOptions(unit_size=256 << 10))

    def finish(self, point: OpenPoint) -> None:
        finish_point(self.open(VAULT), point, None)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def line_to(access: MoverAccess, key: DiskKey, attempt: int = 1) -> tuple[Line, DiskAccess]:
    disk = access.disk(key)
    assert disk is not None
    client = MoverClient(None, CLOCK, LinkOptions(redial_s=0.1, give_up_s=20, far_s=60))
    return client.line(access, disk, attempt), disk


@contextmanager
def writing(access: MoverAccess, attempt: int = 1) -> Iterator[WritableDisk]:
    line, disk = line_to(access, KEY, attempt)
    opened = RemoteSink.open(line, disk.grant)
    with ExitStack() as stack:
        stack.callback(opened.sink.close)
        yield opened


def access_to(movers: Movers, point: OpenPoint) -> MoverAccess:
    access = movers.to_write(VAULT, point, [KEY], None)
    assert access is not None
    return access


def accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return False
    return True


# -- access ------------------------------------------------------------------------------------------------------------


def test_only_a_repository_that_is_served_gives_access(world: World) -> None:
    movers, point = world.movers, world.begin()
    assert movers.to_write(VAULT, point, [KEY], None) is None
    with movers.serving([VAULT, PLAIN]):
        assert access_to(movers, point).address == world.address
        assert access_to(movers, point).patience_s == PATIENCE_MAX_S
        assert access_to(movers, point).connections == LinkOptions().streams
        assert movers.to_write(PLAIN, point, [KEY], None) is None
        assert movers.to_read(PLAIN, point.chain, 1, [KEY], None) is None
    assert movers.to_read(VAULT, point.chain, 1, [KEY], None) is None


def test_a_mover_listens_behind_what_forwards_to_it(world: World) -> None:
    [port] = free_ports(1)
    listened = f"{LOOPBACK}:{port}"
    world.set_vault(mover_listen=listened)
    with world.movers.serving([VAULT]):
        assert accepts(listened)
        assert not accepts(world.address)
        assert access_to(world.movers, world.begin()).address == world.address


def test_a_repository_of_another_worker_is_not_served(world: World) -> None:
    with world.movers.serving([PLAIN]):
        assert not accepts(world.address)
    with world.movers.serving([VAULT]):
        assert accepts(world.address)
    assert not accepts(world.address)


def test_each_disk_and_the_files_have_a_grant_of_their_own(world: World) -> None:
    keys = [DiskKey("a"), DiskKey("b")]
    with world.movers.serving([VAULT]):
        point = world.begin()
        writes = world.movers.to_write(VAULT, point, keys, None)
        reads = world.movers.to_read(VAULT, point.chain, 1, keys, None)
        assert writes is not None
        assert reads is not None
    accesses = [*writes.disks, *reads.disks]
    assert len({access.token for access in accesses}) == len(accesses)
    grants = [msgspec.json.decode(access.grant, type=Grant) for access in accesses]
    assert [grant.disk for grant in grants] == [*keys, FILES] * 2
    assert [grant.writes_file for grant in grants] == [point.file] * 3 + [None] * 3
    assert not writes.has_tls


@pytest.mark.parametrize("count", [1, 6])
def test_a_proxy_keeps_as_many_connections_as_the_configuration_says(world: World, count: int) -> None:
    world.set_vault(mover_connections=count)
    point = world.begin()
    with world.movers.serving([VAULT]), writing(access_to(world.movers, point)) as opened:
        until(lambda: world.connections() == count, "all connections are there")
        opened.sink.zero(0, 4)
        opened.sink.finish()
    world.finish(point)


def test_an_access_of_an_earlier_version_leaves_the_connections_to_the_proxy() -> None:
    told = msgspec.json.decode(b'{"address": "127.0.0.1:1", "has_tls": false, "disks": []}', type=MoverAccess)
    assert told.connections is None


def test_the_secret_is_kept_private_and_outlives_the_process(world: World) -> None:
    point = world.begin()
    with world.movers.serving([VAULT]):
        access = access_to(world.movers, point)
    assert (world.settings.home / "mover.key").stat().st_mode & 0o077 == 0
    again = world.restarted()
    with again.serving([VAULT]), writing(access) as opened:
        opened.sink.zero(0, 4)
        opened.sink.finish()
    world.finish(point)


def test_an_address_that_is_taken_stops_the_worker(world: World) -> None:
    with world.movers.serving([VAULT]):
        other = world.restarted()
        with pytest.raises(ConfigurationInvalid, match=f"cannot listen at {world.address}"), other.serving([VAULT]):
            pass


# -- what is served ----------------------------------------------------------------------------------------------------


def test_a_disk_and_files_are_written_and_read(world: World) -> None:
    content = random.Random(1).randbytes(100)
    point = world.begin()
    with world.movers.serving([VAULT]):
        access = access_to(world.movers, point)
        with writing(access) as opened:
            opened.sink.zero(0, 4)
            opened.sink.finish()
        line, files = line_to(access, FILES)
        put_remote_files(line, files.grant, MachineFiles(files=(MachineFile(name="web.nvram", content=content),)))
        world.finish(point)
        reads = world.movers.to_read(VAULT, point.chain, point.number, [KEY], None)
        assert reads is not None
        line, disk = line_to(reads, KEY)
        source = RemoteSource.open(line, disk.grant)
        assert source.size_bytes == SIZE
        source.close()


# -- ending ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1])
def test_what_is_written_below_a_folder_is_ended(world: World, depth: int) -> None:
    point = world.begin()
    chain = Path(point.chain)
    with world.movers.serving([VAULT]), writing(access_to(world.movers, point)) as opened:
        world.movers.end_writing(VAULT, str([chain, *chain.parents][depth]))
        # The chain is free at once: the point could be begun again and written by another session.
        with pytest.raises(LinkLost, match="does not know the session any more"):
            opened.sink.finish()
        with writing(access_to(world.movers, point)) as later:
            later.sink.zero(0, 4)
            later.sink.finish()
    world.finish(point)


def test_what_is_written_elsewhere_goes_on(world: World) -> None:
    point = world.begin()
    with world.movers.serving([VAULT]), writing(access_to(world.movers, point)) as opened:
        world.movers.end_writing(VAULT, f"{point.chain}0")
        world.movers.end_writing(VAULT, "machines/other")
        world.movers.end_writing(PLAIN, point.chain)
        opened.sink.zero(0, 4)
        opened.sink.finish()
    world.finish(point)


def test_an_end_has_nothing_to_do_when_nobody_writes(world: World) -> None:
    world.movers.end_writing(VAULT, "machines/web")
    point = world.begin()
    with world.movers.serving([VAULT]):
        with writing(access_to(world.movers, point)) as opened:
            opened.sink.zero(0, 4)
            opened.sink.finish()
        world.movers.end_writing(VAULT, point.chain)
    world.finish(point)


# -- certificates ------------------------------------------------------------------------------------------------------


def test_certificates_that_are_not_there_are_a_matter_of_the_configuration(world: World, tmp_path: Path) -> None:
    assert server_context(world.settings) is None
    absent = MoverSettings(ca_file=tmp_path / "ca.pem", certificate=tmp_path / "c.pem", key=tmp_path / "c.key")
    settings = msgspec.structs.replace(world.settings, mover=absent)
    for use in (server_context, lambda told: mover_client(told, CLOCK)):
        with pytest.raises(ConfigurationInvalid, match=r"ca\.pem cannot be used"):
            use(settings)
