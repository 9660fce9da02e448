"""Change tracking reports what changed since any state it still knows."""

import os
import random
import shutil
from pathlib import Path

import pytest

from holdfast.errors import ChangeTrackingLost, DiskReadFailed
from holdfast.model.ids import ChangeId
from holdfast.model.spans import Span, align
from holdfast.providers.local.change_map import PIECE_SIZE, STATES_MAX, WINDOW_SIZE, ChangeMap
from holdfast.providers.local.tracking import changed_spans, record_state
from holdfast.providers.raw_disks import FrozenDisk

MIB = 1 << 20


class Tracked:
    """A disk in a file and its map."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.disk = folder / "disk.raw"
        self.map = folder / "tracking" / "disk.map"
        self.disk.touch()
        self.resize(size_bytes)

    def resize(self, size_bytes: int) -> None:
        os.truncate(self.disk, size_bytes)

    def write(self, offset: int, data: bytes) -> None:
        with self.disk.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def record(self) -> ChangeId:
        with FrozenDisk(self.disk) as disk:
            return record_state(disk, self.map)

    def changed(self, since: ChangeId, until: ChangeId) -> list[Span]:
        return list(changed_spans(self.map, since, until, self.disk.stat().st_size))


@pytest.fixture
def tracked(tmp_path: Path) -> Tracked:
    return Tracked(tmp_path, 3 * WINDOW_SIZE)


def test_exactly_the_changed_pieces_are_reported(tracked: Tracked, seed: int) -> None:
    chance = random.Random(seed)
    states: list[tuple[ChangeId, int]] = []
    written: list[Span] = []
    for _ in range(5):
        for _ in range(4):
            span = Span(chance.randrange(3 * WINDOW_SIZE - MIB), chance.randrange(1, MIB))
            tracked.write(span.start, chance.randbytes(span.length))
            written.append(span)
        state = tracked.record()
        for earlier, count in states:
            expected = align(sorted(written[count:], key=lambda s: s.start), PIECE_SIZE, 3 * WINDOW_SIZE)
            assert tracked.changed(earlier, state) == list(expected)
        states.append((state, len(written)))


def test_writing_the_same_bytes_again_is_no_change(tracked: Tracked) -> None:
    tracked.write(MIB, b"x" * MIB)
    first = tracked.record()
    tracked.write(MIB, b"x" * MIB)
    assert tracked.changed(first, tracked.record()) == []


def test_zeros_in_place_of_a_hole_are_no_change(tracked: Tracked) -> None:
    first = tracked.record()
    tracked.write(MIB, bytes(MIB))
    assert tracked.changed(first, tracked.record()) == []


def test_data_that_became_a_hole_is_a_change(tracked: Tracked) -> None:
    tracked.write(WINDOW_SIZE, b"x" * MIB)
    first = tracked.record()
    tracked.resize(WINDOW_SIZE)
    tracked.resize(3 * WINDOW_SIZE)
    second = tracked.record()
    assert tracked.changed(first, second) == [Span(WINDOW_SIZE, MIB)]
    assert tracked.changed(second, tracked.record()) == []


def test_windows_that_lost_their_data_are_changes_beside_those_that_have_some(
    tmp_path: Path,
) -> None:
    tracked = Tracked(tmp_path, 8 * WINDOW_SIZE)
    for window in (0, 1, 2, 3, 4, 6):
        tracked.write(window * WINDOW_SIZE, b"x")
    first = tracked.record()
    tracked.resize(0)
    tracked.resize(8 * WINDOW_SIZE)
    for window in (3, 5):
        tracked.write(window * WINDOW_SIZE, b"x")
    changed = tracked.changed(first, tracked.record())
    assert [span.start // WINDOW_SIZE for span in changed] == [0, 1, 2, 4, 5, 6]


def test_a_disk_that_ends_inside_a_piece_may_grow(tmp_path: Path) -> None:
    tracked = Tracked(tmp_path, MIB + 512)
    tracked.write(MIB, b"x" * 512)
    first = tracked.record()
    tracked.resize(2 * MIB)
    second = tracked.record()
    assert tracked.changed(first, second) == []
    tracked.write(MIB + 512, b"y")
    assert tracked.changed(second, tracked.record()) == [Span(MIB, PIECE_SIZE)]


def test_the_written_part_of_a_grown_disk_is_a_change(tracked: Tracked) -> None:
    first = tracked.record()
    tracked.resize(5 * WINDOW_SIZE)
    tracked.write(4 * WINDOW_SIZE + 7, b"x")
    assert tracked.changed(first, tracked.record()) == [Span(4 * WINDOW_SIZE, PIECE_SIZE)]


def test_tracking_of_a_shrunk_disk_begins_anew(tracked: Tracked) -> None:
    first = tracked.record()
    tracked.resize(2 * WINDOW_SIZE)
    second = tracked.record()
    with pytest.raises(ChangeTrackingLost):
        tracked.changed(first, second)
    tracked.write(0, b"x")
    assert tracked.changed(second, tracked.record()) == [Span(0, PIECE_SIZE)]


def test_tracking_begins_anew_when_the_map_is_damaged(tracked: Tracked) -> None:
    tracked.write(0, b"x")
    first = tracked.record()
    with tracked.map.open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    with pytest.raises(ChangeTrackingLost):
        tracked.changed(first, first)
    second = tracked.record()
    with pytest.raises(ChangeTrackingLost):
        tracked.changed(first, second)
    assert tracked.changed(second, second) == []


def test_a_map_that_was_set_back_never_passes_for_a_later_one(tracked: Tracked) -> None:
    tracked.record()
    old = tracked.map.with_name("old copy")
    shutil.copy(tracked.map, old)
    tracked.write(0, b"lost with the map")
    state = tracked.record()
    shutil.copy(old, tracked.map)
    tracked.record()
    with pytest.raises(ChangeTrackingLost):
        tracked.changed(state, tracked.record())


def test_states_are_known_for_a_limited_number_of_snapshots(tmp_path: Path) -> None:
    tracked = Tracked(tmp_path, MIB)
    states = [tracked.record() for _ in range(STATES_MAX + 2)]
    assert len(set(states)) == len(states)
    assert tracked.changed(states[2], states[-1]) == []
    with pytest.raises(ChangeTrackingLost):
        tracked.changed(states[1], states[-1])


def test_lost_tracking_is_told_by_the_call(tracked: Tracked) -> None:
    first, second = tracked.record(), tracked.record()
    for since in (ChangeId("unknown"), ChangeId("")):
        with pytest.raises(ChangeTrackingLost):
            changed_spans(tracked.map, since, second, MIB)
    with pytest.raises(ChangeTrackingLost, match="newer"):
        changed_spans(tracked.map, second, first, MIB)


def test_dropping_the_spans_half_way_releases_the_map(tracked: Tracked) -> None:
    first = tracked.record()
    tracked.write(0, b"x")
    tracked.write(WINDOW_SIZE, b"x")
    before = len(list(Path("/proc/self/fd").iterdir()))
    spans = changed_spans(tracked.map, first, tracked.record(), 3 * WINDOW_SIZE)
    assert next(spans) == Span(0, PIECE_SIZE)
    del spans
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_mostly_empty_huge_disk_is_tracked_at_once(tmp_path: Path) -> None:
    size = 8 << 40
    tracked = Tracked(tmp_path, size)
    tracked.write(3 << 40, b"x")
    first = tracked.record()
    tracked.write(size - 1, b"x")
    assert tracked.changed(first, tracked.record()) == [Span(size - PIECE_SIZE, PIECE_SIZE)]
    assert tracked.map.stat().st_blocks * 512 < MIB


def test_a_read_error_leaves_the_old_map(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.write(0, b"x" * MIB)
    first = tracked.record()
    tracked.write(0, b"y")

    with monkeypatch.context() as patch:
        patch.setattr(FrozenDisk, "read_into", _failing)
        with pytest.raises(DiskReadFailed):
            tracked.record()
    with ChangeMap(tracked.map) as found:
        assert found.header.change_id() == first
    assert [p.name for p in tracked.map.parent.iterdir()] == ["disk.map"]
    assert tracked.changed(first, tracked.record()) == [Span(0, PIECE_SIZE)]


def _failing(self: FrozenDisk, offset: int, buffer: memoryview) -> None:
    raise DiskReadFailed(f"reading {len(buffer)} bytes at {offset} of {self}")
