"""Lines of a process to the movers of repositories, and looking whether one is there."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import ConfigurationInvalid, LinkError, LinkLost, LinkRefused
from holdfast.model.points import DiskAccess, MoverAccess
from holdfast.mover.client import MoverClient
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.server import MoverServer
from holdfast.mover.sockets import Address, listen
from tests.holdfast.mover.movers import CLOCK, HERE, SWIFT, Authority, Setting, Site, until


def mover_at(address: Address, access: DiskAccess, *, has_tls: bool = False) -> MoverAccess:
    return MoverAccess(address=str(address), has_tls=has_tls, disks=(access,))


@contextmanager
def stranger() -> Iterator[Address]:
    """Somebody who hangs up as soon as a word was said."""
    with listen(HERE) as listener:

        def close_the_next() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)

        thread = threading.Thread(target=close_the_next)
        thread.start()
        yield Address(HERE.host, listener.getsockname()[1])
        thread.join()


def connections_of(server: MoverServer) -> int:
    """Return how many connections a mover has in its only session."""
    [session] = server._sessions.values()
    return session.line.counters.connections_made


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def guarded(tmp_path: Path, authority: Authority) -> Site:
    """A site whose mover wants certificates."""
    identity = authority.identity("server")
    return Site(tmp_path / "r", {"a": 1 << 20}, Setting(server_tls=identity.context(ssl.PROTOCOL_TLS_SERVER)))


def client_of(authority: Authority, trusts: Authority | None = None) -> MoverClient:
    tls = authority.identity("client", trusts=trusts).context(ssl.PROTOCOL_TLS_CLIENT)
    return MoverClient(tls, CLOCK, SWIFT)


def write(site: Site, client: MoverClient, *, has_tls: bool) -> None:
    opened = site.begin()
    access = site.access(opened)
    with site.server() as server:
        line = client.line(mover_at(server.address, access, has_tls=has_tls), access, 1)
        site.copy(RemoteSink.open(line, access.grant), site.reader())
    site.finish(opened)


# -- lines -------------------------------------------------------------------------------------------------------------


def test_a_line_carries_a_disk(site: Site) -> None:
    write(site, MoverClient(None, CLOCK, SWIFT), has_tls=False)


def test_a_line_carries_a_disk_with_certificates(guarded: Site, authority: Authority) -> None:
    write(guarded, client_of(authority), has_tls=True)


def test_a_certificate_is_kept_for_those_who_ask(site: Site, authority: Authority) -> None:
    write(site, client_of(authority), has_tls=False)


def test_without_a_certificate_a_mover_that_wants_one_is_not_dialled(site: Site) -> None:
    access = site.access(site.begin())
    with pytest.raises(ConfigurationInvalid, match=r"mover at 127\.0\.0\.1:1 wants a certificate"):
        MoverClient(None, CLOCK).line(mover_at(Address("127.0.0.1", 1), access, has_tls=True), access, 1)


def test_an_address_that_is_none_is_refused(site: Site) -> None:
    access = site.access(site.begin())
    mover = msgspec.structs.replace(mover_at(HERE, access), address="vault")
    with pytest.raises(ConfigurationInvalid, match="'vault' is no address of a mover"):
        MoverClient(None, CLOCK).line(mover, access, 1)


def test_where_nobody_answers_the_line_is_lost(site: Site) -> None:
    access = site.access(site.begin())
    with listen(HERE) as listener:
        nobody = Address(HERE.host, listener.getsockname()[1])
    hasty = msgspec.structs.replace(SWIFT, redial_s=0.05, give_up_s=0.2)
    line = MoverClient(None, CLOCK, hasty).line(mover_at(nobody, access), access, 1)
    with pytest.raises(LinkLost):
        RemoteSink.open(line, access.grant)


def test_a_mover_that_says_for_how_long_is_dialled_no_longer(site: Site) -> None:
    access = site.access(site.begin())
    with listen(HERE) as listener:
        nobody = Address(HERE.host, listener.getsockname()[1])
    mover = msgspec.structs.replace(mover_at(nobody, access), patience_s=0.2)
    line = MoverClient(None, CLOCK, msgspec.structs.replace(SWIFT, redial_s=0.05)).line(mover, access, 1)
    with pytest.raises(LinkLost, match=r"no connection for 0\.2 s"):
        RemoteSink.open(line, access.grant)


@pytest.mark.parametrize("wanted, kept", [(None, SWIFT.streams), (1, 1), (7, 7)])
def test_a_mover_that_says_how_many_connections_gets_as_many(site: Site, wanted: int | None, kept: int) -> None:
    opened = site.begin()
    access = site.access(opened)
    never_far = msgspec.structs.replace(SWIFT, far_s=60.0)  # whatever else this host has to do
    with site.server() as server:
        mover = msgspec.structs.replace(mover_at(server.address, access), connections=wanted)
        line = MoverClient(None, CLOCK, never_far).line(mover, access, 1)
        sink = RemoteSink.open(line, access.grant)
        until(lambda: connections_of(server) == kept, "all connections are there")
        site.copy(sink, site.reader())
        assert line.counters.connections_made == kept
    site.finish(opened)


# -- looking -----------------------------------------------------------------------------------------------------------


def test_a_mover_is_found_and_no_session_begins(site: Site) -> None:
    with site.server() as server:
        MoverClient(None, CLOCK).probe(server.address, has_tls=False)
        assert not server._sessions


def test_a_mover_with_certificates_is_found(guarded: Site, authority: Authority) -> None:
    with guarded.server() as server:
        client_of(authority).probe(server.address, has_tls=True)


def test_a_certificate_of_another_authority_is_not_well(guarded: Site, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    with guarded.server() as server:
        with pytest.raises(LinkRefused, match="certificate"):
            client_of(other).probe(server.address, has_tls=True)
        with pytest.raises(LinkRefused, match="certificate"):
            client_of(other, trusts=authority).probe(server.address, has_tls=True)


def test_somebody_else_and_nobody_are_told_apart() -> None:
    client = MoverClient(None, CLOCK)
    with stranger() as address, pytest.raises(LinkError):
        client.probe(address, has_tls=False)
    with pytest.raises(OSError, match="refused"):
        client.probe(address, has_tls=False)


def test_looking_needs_a_certificate_too() -> None:
    with pytest.raises(ConfigurationInvalid, match="has none"):
        MoverClient(None, CLOCK).probe(Address("127.0.0.1", 1), has_tls=True)
