"""A session writes a disk as the local pipe does; what goes wrong is told to the other side."""

import shutil
import ssl
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import (
    ChainBusy,
    HoldfastError,
    LinkError,
    LinkLost,
    LinkRefused,
    OperationCancelled,
    PointNotFound,
    ProtocolError,
    RepositoryFull,
    SyncFailed,
)
from holdfast.faults import set_hook
from holdfast.formats.mover import messages as m
from holdfast.model.plan import ReadMode
from holdfast.model.points import OpenPoint
from holdfast.model.spans import Span
from holdfast.mover.grants import Grant
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.sockets import Address
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.testing.chains import ProtectedMachine, transfer_disk
from tests.holdfast.mover.movers import CLOCK, MIB, PLAIN_PIPE, Authority, Setting, Site, until

How = tuple[ReadMode, list[Span], StoreOptions, PipeOptions]


def differing(one: Path, other: Path) -> dict[str, list[int]]:
    """Return where files of two repositories differ."""
    found = {}
    for path in one.rglob("*.hfc"):
        pair = path.read_bytes(), (other / path.relative_to(one)).read_bytes()
        if len(pair[0]) != len(pair[1]):
            found[path.name] = [len(each) for each in pair]
        elif pair[0] == pair[1]:
            found[path.name] = []
        else:
            found[path.name] = [at for at, (left, right) in enumerate(zip(*pair, strict=True)) if left != right]
    return found


def test_a_proxy_without_room_hears_as_soon_as_a_unit_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_s = 20.0
    monkeypatch.setattr("holdfast.mover.service._LOOK_S", look_s)
    site = Site(tmp_path / "repository", {"a": MIB})
    store = StoreOptions(unit_size=4 * MIB, passphrase=None)  # two of them fill the window that a session begins with
    site.machine = ProtectedMachine(site.repository, 4, {"a": 40 * MIB}, store, PLAIN_PIPE)
    opened = site.begin()
    with site.server() as server:
        began_s = CLOCK.monotonic_s()
        site.transfer(server.address, site.access(opened))
        took_s = CLOCK.monotonic_s() - began_s
    site.finish(opened)
    assert took_s < look_s, "nobody looked now and then whether there is room"


def secured(folder: Path) -> Setting:
    authority = Authority(folder)
    server, client = authority.identity("repository"), authority.identity("proxy")
    return Setting(
        server_tls=server.context(ssl.PROTOCOL_TLS_SERVER), client_tls=client.context(ssl.PROTOCOL_TLS_CLIENT)
    )


@pytest.mark.parametrize("is_tls", [False, True])
def test_a_session_writes_a_disk_byte_for_byte_as_the_local_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_tls: bool
) -> None:
    monkeypatch.setattr("os.urandom", lambda size: b"w" * size)  # every writer draws an id for its records
    site = Site(tmp_path / "far", {"a": 4 * MIB}, secured(tmp_path) if is_tls else None)
    opened = site.begin()
    shutil.copytree(tmp_path / "far", tmp_path / "near")
    near = Site(tmp_path / "near", {})
    mode: How = (ReadMode.CHANGED, [], near.machine.store, near.setting.pipe)
    local = transfer_disk(near.repository, opened, "a", site.reader(), mode)
    with site.server() as server:
        figures = site.transfer(server.address, site.access(opened))
    assert differing(tmp_path / "far", tmp_path / "near") == {opened.file: []}
    assert (figures.transferred_bytes, figures.stored_bytes) == (local.transferred_bytes, local.stored_bytes)
    assert (figures.read_bytes, figures.resent_bytes) == (4 * MIB, 0)
    site.finish(opened)


def test_an_increment_sends_what_differs_and_answers_digests_of_the_parent(site: Site) -> None:
    with site.server() as server:
        opened = site.begin()
        site.transfer(server.address, site.access(opened))
        site.finish(opened)
        site.machine.sessions += 1
        opened = site.machine.begin()
        writable = site.sink(server.address, site.access(opened))
        assert writable.earlier is not None
        with site.repository.open_chain(opened.chain, None) as chain:
            stored = chain.disk(1, "a")
            assert writable.earlier.piece_digests(3, 60) == stored.piece_digests(3, 60)
            assert writable.earlier.size_bytes == stored.size_bytes
        figures = site.copy(writable, site.reader())
    assert figures.transferred_bytes == 0
    site.finish(opened)


def failing(error: HoldfastError, site: Site) -> tuple[Site, OpenPoint]:
    def fail(name: str) -> None:
        if name == "pipe.unit_written":
            raise error

    opened = site.begin()
    set_hook(fail)
    return site, opened


@pytest.mark.parametrize("error", [RepositoryFull("no space is left"), SyncFailed("flush failed", hint="Look at it.")])
def test_what_the_intake_fails_with_arrives_with_its_code_and_hint(site: Site, error: HoldfastError) -> None:
    site, opened = failing(error, site)
    try:
        with site.server() as server:
            with pytest.raises(type(error), match=error.message) as caught:
                site.transfer(server.address, site.access(opened))
            assert (caught.value.code, caught.value.hint) == (error.code, error.hint)
            set_hook(None)
            assert site.is_free(opened)
            site.transfer(server.address, site.access(opened))
    finally:
        set_hook(None)
    site.finish(opened)


def test_a_chain_that_somebody_holds_is_busy_and_a_file_that_is_gone_is_not_found(site: Site) -> None:
    opened = site.begin()
    path = site.repository.chain_file(opened.chain, opened.file)
    with site.server() as server:
        with ExitStack() as stack:
            site.open_for_writing(site.grant(opened), "", stack)
            with pytest.raises(ChainBusy):
                site.sink(server.address, site.access(opened))
        kept = path.read_bytes()
        path.unlink()
        with pytest.raises(PointNotFound, match="is gone"):
            site.sink(server.address, site.access(opened))
        path.write_bytes(kept)
        site.transfer(server.address, site.access(opened))
    site.finish(opened)


def test_a_grant_of_another_session_and_one_that_expired_are_refused(site: Site) -> None:
    opened = site.begin()
    with site.server() as server:
        one, other = site.access(opened), site.access(opened)
        with pytest.raises(LinkRefused, match="not that of the session"):
            RemoteSink.open(site.line(server.address, one), other.grant)
        with pytest.raises(LinkRefused, match="has expired"):
            site.sink(server.address, site.issuer.issue(site.grant(opened, valid_s=-5)))
        assert site.is_free(opened)


def test_a_session_that_begins_with_anything_but_a_grant_is_refused(site: Site) -> None:
    with site.server() as server:
        line = site.line(server.address, site.access(site.begin()))
        line.send(m.encode_message(m.Keep(until=1)))
        message = line.receive(20)
        assert message is not None
        head, _ = m.decode_message(message.payload)
        assert isinstance(head, m.Failure)
        assert isinstance(m.failed(head), ProtocolError)
        line.close()


def test_a_source_that_stops_frees_the_chain_and_keeps_what_was_committed(site: Site) -> None:
    opened = site.begin()
    site.setting.pipe = type(site.setting.pipe)(commit_new_bytes=MIB, commit_interval_s=0.0)

    def stop(progress: PipeProgress) -> None:
        if progress.committed_bytes >= MIB:
            raise OperationCancelled("enough")

    with site.server() as server:
        access = site.access(opened)
        for attempt in range(1, 30):
            try:
                site.copy(site.sink(server.address, access, attempt), site.reader(), stop)
                break
            except OperationCancelled:
                assert site.is_free(opened)
        site.finish(opened)


def test_a_wrong_order_of_the_proxy_ends_the_session(site: Site) -> None:
    opened = site.begin()
    with site.server() as server:
        writable = site.sink(server.address, site.access(opened))
        writable.sink.zero(8, 16)
        writable.sink.zero(0, 4)
        with pytest.raises(HoldfastError) as caught:
            writable.sink.finish()
        assert caught.value.code == "request-invalid"
        writable.sink.close()
        assert site.is_free(opened)


def test_a_mover_that_is_not_there_is_a_lost_link_that_says_why(site: Site) -> None:
    site.setting.link = msgspec.structs.replace(site.setting.link, give_up_s=0.5)
    with pytest.raises(LinkLost, match=r"no connection for 0.5 s; the last try: .*Connection refused") as caught:
        site.sink(Address("127.0.0.1", 1), site.access(site.begin()))
    assert caught.value.retryable


def test_an_error_that_is_none_of_ours_reaches_the_source_as_a_lost_session(site: Site) -> None:
    opened = site.begin()

    def broken(grant: Grant, _: str, stack: ExitStack) -> WritableDisk:
        raise HoldfastError(f"a defect at disk {grant.disk}")

    with site.server(broken) as server, pytest.raises(HoldfastError, match="a defect at disk a") as caught:
        site.sink(server.address, site.access(opened))
    assert caught.value.code == "internal"
    assert not isinstance(caught.value, LinkError)


def test_a_session_that_ended_well_does_not_stay_for_a_proxy_that_has_gone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.mover.service._LAST_WORDS_S", 0.3)
    opened, opener = site.begin(), site.open_for_writing

    def leaving(grant: Grant, lies_at: str, stack: ExitStack) -> WritableDisk:
        disk = opener(grant, lies_at, stack)
        finish = disk.sink.finish

        def finish_alone() -> None:
            finish()
            line.close()

        vars(disk.sink)["finish"] = finish_alone
        return disk

    with site.server(leaving) as server:
        line = site.line(server.address, access := site.access(opened))
        with pytest.raises(OperationCancelled):
            site.copy(RemoteSink.open(line, access.grant), site.reader())
        until(lambda: not vars(server)["_sessions"], "the session is gone", 10)
    site.finish(opened)
