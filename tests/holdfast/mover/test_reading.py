"""A disk of a finished point is read through two movers."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import DataError, HoldfastError, LinkLost, ProtocolError
from holdfast.formats.mover import messages as m
from holdfast.model.spans import Span
from holdfast.pipeline.restore import DiskRestore
from holdfast.planning.change_trust import lie_reason
from holdfast.storage.chains.chain import Chain
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import CLOCK, MIB, PIECE, Site, until


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a chain of three points, each of which wrote a part of the disk."""
    site = Site(tmp_path_factory.mktemp("original") / "repository", {"a": 8 * MIB})
    disk = site.machine.disks["a"]
    for first, count in ((0, 128), (16, 20), (100, 9)):
        disk.write(Span(first * PIECE, count * PIECE))
        site.machine.back_up()
    return site


@pytest.fixture
def stored(original: Site, tmp_path: Path) -> Site:
    """Return a copy of that chain."""
    shutil.copytree(original.repository.root, tmp_path / "repository")
    site = Site(tmp_path / "repository", {})
    site.machine.kept = original.machine.kept
    return site


def chain_of(site: Site) -> Chain:
    return site.repository.open_chain(site.machine.kept[0].summary.chain, None)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_point_of_a_chain_of_several_files_is_restored(stored: Site, number: int) -> None:
    chain = stored.machine.kept[0].summary.chain
    with stored.server() as server:
        source = stored.source(server.address, stored.reading(chain, number))
        target = MemoryDisk(bytes(source.size_bytes))
        DiskRestore(source, target, source.digest_key, CLOCK).run(0, lambda _: None)
        source.close()
    kept = stored.machine.kept[number - 1].disks["a"]
    assert bytes(target.content) == kept.read(Span(0, kept.size_bytes))


def test_digests_and_runs_are_those_of_the_chain(stored: Site) -> None:
    with chain_of(stored) as chain, stored.server() as server:
        disk = chain.disk(2, "a")
        source = stored.source(server.address, stored.reading(stored.machine.kept[0].summary.chain, 2))
        assert source.piece_digests(0, 128) == disk.piece_digests(0, 128)
        assert source.piece_digests(7, 9) == disk.piece_digests(7, 9)
        assert (source.machine_name, source.change_id) == (disk.machine_name, disk.change_id)
        assert source.left_out == disk.left_out
        ours = [(run.count, run.place, run.file is None) for run in source.runs(3, 128)]
        assert ours == [(run.count, run.place, run.file is None) for run in disk.runs(3, 128)]
        source.close()
        source.close()


def test_a_lie_that_a_later_point_found_is_told(site: Site) -> None:
    with site.server() as server:
        chain = ""
        for detail in ("full: no earlier point", f"compared: {lie_reason(0)}"):
            opened = site.begin()
            chain = opened.chain
            writable = site.sink(server.address, site.access(opened))
            writable.sink.describe(detail)
            site.copy(writable, site.reader())
            writable.sink.close()
            site.finish(opened)
        for number, is_doubted in ((1, True), (2, False)):
            source = site.source(server.address, site.reading(chain, number))
            assert source.is_doubted is is_doubted
            source.close()


def test_many_units_may_be_asked_for_before_one_has_come(stored: Site) -> None:
    with stored.server() as server, ThreadPoolExecutor(2) as pool:
        source = stored.source(server.address, stored.reading(stored.machine.kept[0].summary.chain, 1))
        (run,) = source.runs(0, 128)
        assert run.file is not None
        units = range(128 * PIECE // (256 << 10))
        flights = [run.file.fetch(number, pool, source.digest_key) for number in units]
        again = run.file.fetch(units[-1], pool, source.digest_key).result()
        body = b"".join(bytes(flight.result()) for flight in flights)
        kept = stored.machine.kept[0].disks["a"]
        assert body == kept.read(Span(0, kept.size_bytes))
        assert bytes(again) == body[-(256 << 10) :]
        source.close()


def test_a_damaged_unit_arrives_as_what_it_is(stored: Site) -> None:
    chain = stored.machine.kept[0].summary.chain
    path = stored.repository.chain_folder(chain) / "00000001-full.hfc"
    damaged = bytearray(path.read_bytes())
    damaged[2 * MIB] ^= 0x40
    path.write_bytes(damaged)
    with stored.server() as server:
        source = stored.source(server.address, stored.reading(chain, 1))
        target = MemoryDisk(bytes(source.size_bytes))
        with pytest.raises(DataError, match=r"unit \d+") as caught:
            DiskRestore(source, target, source.digest_key, CLOCK).run(0, lambda _: None)
        source.close()
        assert "00000001-full.hfc" in caught.value.message
        with pytest.raises(type(caught.value)):
            list(source.runs(0, 1))
        until(lambda: not vars(server)["_sessions"], "the session is over")


def test_a_point_that_is_not_there_is_told(stored: Site) -> None:
    with stored.server() as server, pytest.raises(HoldfastError) as caught:
        stored.source(server.address, stored.reading(stored.machine.kept[0].summary.chain, 9))
    assert caught.value.code == "point-not-found"


@pytest.mark.parametrize(
    "head",
    [
        m.GetUnit(file=3, number=0),
        m.RunsOf(first=100, count=29),
        m.DigestsOf(first=128, count=1),
        m.Keep(until=1),
    ],
)
def test_what_a_proxy_must_not_ask_ends_the_session(stored: Site, head: m.AnyHead) -> None:
    with stored.server() as server:
        access = stored.reading(stored.machine.kept[0].summary.chain, 3)
        source = stored.source(server.address, access)
        vars(source)["_line"].send(m.encode_message(head))
        with pytest.raises(ProtocolError):
            source.piece_digests(0, 128)
        source.close()


def test_a_proxy_that_goes_away_without_a_word_is_forgotten_with_the_next_attempt(stored: Site) -> None:
    access = stored.reading(stored.machine.kept[0].summary.chain, 3)
    with stored.server() as server:
        source = stored.source(server.address, access)
        vars(source)["_line"].close()
        again = stored.source(server.address, access, 2)
        assert len(again.piece_digests(0, 128)) == 128 * 16
        again.close()
        source.close()


def test_a_mover_that_goes_away_in_the_middle_is_a_lost_link(stored: Site) -> None:
    stored.setting.link = msgspec.structs.replace(stored.setting.link, give_up_s=0.5)
    with stored.server() as server:
        source = stored.source(server.address, stored.reading(stored.machine.kept[0].summary.chain, 3))
    with pytest.raises(LinkLost):
        source.piece_digests(0, 128)
    source.close()
