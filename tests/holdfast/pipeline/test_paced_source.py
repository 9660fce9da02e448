"""A disk of a restore point in files of this host is read at a pace, and is the same disk."""

from pathlib import Path

import pytest

from holdfast.model.spans import Span
from holdfast.pipeline.pace import Pace
from holdfast.pipeline.paced_source import PacedSource
from holdfast.pipeline.restore import DiskRestore
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import CLOCK, MIB, Site
from tests.holdfast.pipeline.stepped_clock import SteppedClock


@pytest.fixture
def stored(tmp_path: Path) -> Site:
    """Return a chain of two points, each of which wrote a part of the disk."""
    site = Site(tmp_path / "repository", {"a": 4 * MIB})
    disk = site.machine.disks["a"]
    for start, length in ((0, 3 * MIB), (MIB, MIB)):
        disk.write(Span(start, length))
        site.machine.back_up()
    return site


def test_a_paced_disk_restores_to_the_same_bytes_and_takes_its_time(stored: Site) -> None:
    clock = SteppedClock()
    pace = Pace(clock, pause=clock.pause)
    pace.allot(MIB, "read limit of repository vault")
    with stored.repository.open_chain(stored.machine.kept[0].summary.chain, None) as chain:
        disk = chain.disk(2, "a")
        source = PacedSource(disk, pace)
        assert (source.machine_name, source.digest_key) == (disk.machine_name, disk.digest_key)
        assert (source.change_id, source.pieces) == (disk.change_id, disk.pieces)
        assert (source.left_out, source.is_doubted) == (disk.left_out, disk.is_doubted)
        assert source.piece_digests(0, 64) == disk.piece_digests(0, 64)
        target = MemoryDisk(bytes(source.size_bytes))
        DiskRestore(source, target, source.digest_key, CLOCK).run(0, lambda _: None)
    kept = stored.machine.kept[1].disks["a"]
    assert bytes(target.content) == kept.read(Span(0, kept.size_bytes))
    # Two threads read; what both wait for passes twice on this clock.
    assert 2.7 <= pace.waited_s <= clock.seconds - 1000.0 + 0.001 <= 6.0


def test_pieces_of_one_file_stay_together(stored: Site) -> None:
    with stored.repository.open_chain(stored.machine.kept[0].summary.chain, None) as chain:
        disk = chain.disk(2, "a")
        source = PacedSource(disk, Pace(CLOCK))
        pairs = list(zip(source.runs(0, 64), disk.runs(0, 64), strict=True))
    assert [(ours.piece, ours.count, ours.place) for ours, _ in pairs] == [
        (theirs.piece, theirs.count, theirs.place) for _, theirs in pairs
    ]
    assert [ours.file is None for ours, _ in pairs] == [theirs.file is None for _, theirs in pairs]
    assert len({id(ours.file) for ours, _ in pairs if ours.file}) == len({id(t.file) for _, t in pairs if t.file}) == 2
