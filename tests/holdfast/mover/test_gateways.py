"""Two gateways of one share: when one is lost the other goes on, and never do both write a chain."""

from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.errors import ChainBusy, HoldfastError, OperationCancelled, WriterFenced
from holdfast.pipeline.stages import PipeProgress
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.files.atomic import HostFiles
from tests.holdfast.mover.movers import MIB, Site, until
from tests.holdfast.mover.process import PIPE

STOP_AT = 12 * MIB


@pytest.fixture
def gateways(tmp_path: Path) -> tuple[Site, Site]:
    """Return two hosts that have the same folder; each has a secret and open points of its own."""
    first = Site(tmp_path / "share", {"a": 24 * MIB, "b": 2 * MIB})
    second = Site(tmp_path / "share", {})
    first.setting.pipe = second.setting.pipe = PIPE
    second.machine = first.machine
    return first, second


def stop_late(progress: PipeProgress) -> None:
    if progress.committed_bytes >= STOP_AT:
        raise OperationCancelled("the gateway is lost")


def test_another_gateway_goes_on_from_the_last_commit(gateways: tuple[Site, Site]) -> None:
    first, second = gateways
    opened = first.begin()
    with first.server() as server, suppress(HoldfastError):
        first.copy(first.sink(server.address, first.access(opened)), first.reader(), stop_late)
    # The point is found begun by its session, and the other one gives access to it.
    assert second.machine.begin().file == opened.file
    with second.server() as server:
        writable = second.sink(server.address, second.access(opened))
        assert writable.sink.standing.committed * 65536 >= STOP_AT
        figures = second.copy(writable, second.reader())
        assert figures.read_bytes < 24 * MIB + 13 * MIB
        second.transfer(server.address, second.access(opened, "b"), disk="b")
        until(lambda: second.is_free(opened), "the file is let go of")
    second.finish(opened)


def test_while_one_writes_the_chain_is_busy_for_the_other(gateways: tuple[Site, Site]) -> None:
    first, second = gateways
    opened = first.begin()
    with first.server() as server, second.server() as other:
        held = first.sink(server.address, first.access(opened))
        with pytest.raises(ChainBusy):
            second.sink(other.address, second.access(opened, "b"))
        first.copy(held, first.reader())
        until(lambda: second.is_free(opened), "the file is let go of")
        second.transfer(other.address, second.access(opened, "b"), disk="b")
        until(lambda: second.is_free(opened), "the file is let go of")
    first.finish(opened)


def test_a_gateway_whose_lock_was_lost_stops_at_its_next_commit(gateways: tuple[Site, Site]) -> None:
    # What a share may do to a host that it takes for dead: the lock is given to another.
    first, _ = gateways
    opened = first.begin()
    path = first.repository.chain_file(opened.chain, opened.file)
    with first.server() as server:
        held = first.sink(server.address, first.access(opened))
        until(lambda: not is_free(path), "the file is held")
        # Another host with the lock has committed meanwhile.
        moved = path.with_suffix(".moved")
        path.rename(moved)
        path.write_bytes(moved.read_bytes())
        lock = path.with_name("chain.lock")
        lock.rename(lock.with_suffix(".lost"))
        with ChainWriter.resume(first.files, path) as other:
            other.commit()
        moved.write_bytes(path.read_bytes())
        with pytest.raises(WriterFenced):
            first.copy(held, first.reader())
    path.unlink()
    moved.rename(path)


def is_free(path: Path) -> bool:
    try:
        ChainWriter.resume(HostFiles(), path).close()
    except ChainBusy:
        return False
    return True
