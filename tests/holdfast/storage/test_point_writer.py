"""A disk goes into a point piece by piece; where it was interrupted and how it was packed does not show."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskNotFound, PointNotFound, RequestInvalid
from holdfast.formats.contents import Contents, ParentPoint, Point, PointDisk, PointMachine
from holdfast.formats.digests import disk_root, segment_digest
from holdfast.formats.keys import plain_keys
from holdfast.formats.magic import (
    DIGEST_SIZE,
    PIECE_SIZE,
    PIECES_PER_PAGE,
    PIECES_PER_SEGMENT,
    RECORDS_START,
    ZERO_DIGEST,
    FileKind,
    RecordKind,
)
from holdfast.formats.pages import MapRuns
from holdfast.formats.record import HEADER_SIZE, unpack_header
from holdfast.model.spans import Span
from holdfast.storage.chain import Chain, StoredDisk, chain_file_name
from holdfast.storage.chain_writer import ChainWriter, FileSpec
from holdfast.storage.point_writer import DiskPointWriter, complete_point, open_disk, with_new_point
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles

FOLDER = Path("/chain")
KEYS = plain_keys(bytes(range(16)))
UNIT = 1 << 20
TIB_PIECES = (1 << 40) // PIECE_SIZE


def digest_of(value: int) -> bytes:
    """Return a digest that stands for a content; 0 is zeros."""
    return value.to_bytes(DIGEST_SIZE, "little")


class Sink:
    """Feeds one disk with digests instead of content; what is new is stored as units without bytes."""

    def __init__(self, files: CrashFiles, number: int, size_bytes: int) -> None:
        self.files = files
        self.number = number
        files.make_folder(FOLDER)
        parent = None
        if number:
            with Chain.open(files, FOLDER) as chain:
                file, point = chain.point(number - 1)
                parent = ParentPoint(file=file.contents.file, point=point.number, root=point.root or "")
        contents = Contents(
            chain=KEYS.chain_id.hex(),
            file=number.to_bytes(16, "big").hex(),
            kind="increment" if number else "full",
            unit_size=UNIT,
            created=SystemClock().now(),
            parent=parent,
            holds=(number, number),
        )
        point = Point(
            number=number,
            id=number.to_bytes(16, "big").hex(),
            session="s",
            machine=PointMachine(machine_id="m", name="m"),
            created=contents.created,
            disks=(PointDisk(disk=0, key="d", size=size_bytes),),
        )
        kind = FileKind.INCREMENT if number else FileKind.FULL
        self.path = FOLDER / chain_file_name(number, contents.kind)
        spec = FileSpec(kind=kind, unit_size=UNIT, contents=with_new_point(contents, point))
        ChainWriter.create(files, self.path, spec, KEYS).close()

    def run(self, feed: Callable[["Feeder"], None]) -> None:
        """Open the disk where the last commit left it, and feed it."""
        with Chain.open(self.files, FOLDER) as chain, ChainWriter.resume(self.files, self.path) as writer:
            parent = chain.disk(self.number - 1, "d") if self.number else None
            feed(Feeder(writer, open_disk(writer, self.number, "d", parent)))

    def complete(self) -> Point:
        with ChainWriter.resume(self.files, self.path) as writer:
            return complete_point(writer, self.number)


class Feeder:
    def __init__(self, writer: ChainWriter, disk: DiskPointWriter) -> None:
        self.writer = writer
        self.disk = disk
        self._new: list[bytes] = []

    def offer(self, digest: bytes) -> None:
        place = self.writer.next_unit * self.writer.pieces_per_unit + len(self._new)
        if self.disk.offer(digest, place):
            self._new.append(digest)
            if len(self._new) == self.writer.pieces_per_unit:
                self.store()

    def store(self) -> None:
        if self._new:
            stamp = self.writer.stamp(self.disk.point_number)
            self.writer.write_unit(self.writer.reserve_unit(), stamp, self._new, [bytes(16), bytes(4080)])
            self._new = []

    def commit(self) -> None:
        self.store()
        self.disk.start_commit()
        self.writer.finish_commit()

    def finish(self) -> None:
        self.disk.keep_until(self.disk.pieces)
        self.store()
        self.disk.finish()


class Interrupted(Exception):
    """The process is gone."""


def feed_changes(feeder: Feeder, before: list[int], now: list[int], rng: random.Random, stop_at: int) -> None:
    """Bring the disk from one content to the other, in steps as a run might take them; stop without a commit."""
    disk = feeder.disk
    while disk.cursor < len(now):
        at = disk.cursor
        if at >= stop_at:
            raise Interrupted
        end = end_of_run(before, now, at, rng.choice([1, 3, 50, 3000]))
        if kind_of(before, now, at) == (True, now[at] == 0) and rng.random() < 0.7:
            disk.keep_until(end)
        elif now[at] == 0 and rng.random() < 0.7:
            disk.zero_until(end)
        else:
            for piece in range(at, end):
                feeder.offer(digest_of(now[piece]))
        if rng.random() < 0.05:
            feeder.commit()
    feeder.finish()


def kind_of(before: list[int], now: list[int], piece: int) -> tuple[bool, bool]:
    """Return whether a piece is as before (behind the shorter content nothing is), and whether it is zeros."""
    return piece < min(len(before), len(now)) and before[piece] == now[piece], now[piece] == 0


def end_of_run(before: list[int], now: list[int], start: int, most: int) -> int:
    kind = kind_of(before, now, start)
    end = start + 1
    while end < min(len(now), start + most) and kind_of(before, now, end) == kind:
        end += 1
    return end


def write_content(sink: Sink, before: list[int], now: list[int], rng: random.Random) -> Point:
    """Write a content with interruptions at random places."""
    while True:
        stop_at = rng.randrange(len(now) + 1) if rng.random() < 0.7 else len(now) + 1
        try:
            sink.run(lambda feeder, stop=stop_at: feed_changes(feeder, before, now, rng, stop))  # type: ignore[misc]
        except Interrupted:
            continue
        return sink.complete()


def random_content(rng: random.Random, pieces: int, before: list[int]) -> list[int]:
    """Return a content that shares runs with the one before; values repeat, so that pieces are known."""
    content = (before + [0] * pieces)[:pieces]
    for _ in range(rng.randrange(1, 12)):
        start, length = rng.randrange(pieces), rng.choice([1, 2, 30, 1024, 1500])
        fill = rng.choice(["zeros", "new", "one value"])
        for at in range(start, min(pieces, start + length)):
            content[at] = 0 if fill == "zeros" else 7 if fill == "one value" else rng.randrange(1, 1 << 60)
    return content


def expected_root(content: list[int], size_bytes: int) -> str:
    padded = content + [0] * (-len(content) % PIECES_PER_SEGMENT)
    segments = [
        segment_digest(b"".join(map(digest_of, padded[at : at + PIECES_PER_SEGMENT])), KEYS.digest_key)
        for at in range(0, len(padded), PIECES_PER_SEGMENT)
    ]
    return disk_root(size_bytes, segments, KEYS.digest_key).hex()


def stored_digests(disk: StoredDisk) -> list[int]:
    joined = disk.piece_digests(0, disk.pieces)
    return [int.from_bytes(joined[at : at + DIGEST_SIZE], "little") for at in range(0, len(joined), DIGEST_SIZE)]


@pytest.mark.parametrize("round_", range(8))
def test_whatever_is_kept_zeroed_and_offered_and_wherever_it_stops_the_disk_is_what_it_was(
    files: CrashFiles, seed: int, round_: int
) -> None:
    rng = random.Random(seed)
    before: list[int] = []
    contents: list[tuple[list[int], int]] = []
    for number in range(4):
        pieces = rng.choice([1, 1023, 1024, 1025, 2048, 2500, 3100])
        size = pieces * PIECE_SIZE - rng.choice([0, 512, PIECE_SIZE - 512])
        now = random_content(rng, pieces, before)
        point = write_content(Sink(files, number, size), before, now, rng)
        assert point.disks[0].root == expected_root(now, size)
        contents.append((now, size))
        before = now
    with Chain.open(files, FOLDER) as chain:
        for number, (content, size) in enumerate(contents):
            disk = chain.disk(number, "d")
            assert (disk.size_bytes, stored_digests(disk)) == (size, content)


def test_a_commit_at_every_piece_changes_nothing(files: CrashFiles) -> None:
    # The end of one segment and the beginning of the next; the rest goes in one run.
    content = [*range(1, 1030), 0, 0, 5, 5]
    size = len(content) * PIECE_SIZE
    sink = Sink(files, 0, size)

    def one_piece(feeder: Feeder) -> None:
        feeder.offer(digest_of(content[feeder.disk.cursor]))
        feeder.commit()

    def most(feeder: Feeder) -> None:
        for value in content[:1000]:
            feeder.offer(digest_of(value))
        feeder.commit()

    sink.run(most)
    for _ in content[1000:]:
        sink.run(one_piece)
    sink.run(lambda feeder: feeder.finish())
    assert sink.complete().disks[0].root == expected_root(content, size)


def test_a_resumed_disk_knows_what_it_had(files: CrashFiles) -> None:
    sink = Sink(files, 0, 10 * PIECE_SIZE)

    def first(feeder: Feeder) -> None:
        for value in (1, 2, 0):
            feeder.offer(digest_of(value))
        feeder.commit()
        feeder.offer(digest_of(99))

    sink.run(first)

    def second(feeder: Feeder) -> None:
        assert feeder.disk.cursor == 3
        feeder.offer(digest_of(2))
        feeder.finish()
        assert feeder.writer.next_unit == 1, "the piece was known"

    sink.run(second)
    sink.complete()
    with Chain.open(files, FOLDER) as chain:
        assert stored_digests(chain.disk(0, "d"))[:5] == [1, 2, 0, 2, 0]


def test_a_piece_that_came_back_to_the_parents_content_is_not_written(files: CrashFiles) -> None:
    first = Sink(files, 0, 2 * PIECE_SIZE)
    first.run(lambda feeder: feed_changes(feeder, [], [1, 2], random.Random(1), 9))
    first.complete()
    second = Sink(files, 1, 2 * PIECE_SIZE)

    def same(feeder: Feeder) -> None:
        feeder.offer(digest_of(1))
        feeder.offer(digest_of(2))
        feeder.finish()
        assert feeder.writer.next_unit == 0

    second.run(same)
    point = second.complete()
    with Chain.open(files, FOLDER) as chain:
        assert list(chain.disk(1, "d").writers(0, 2)) == [(0, 2, 0)]
        assert point.disks[0].root == chain.point(0)[1].disks[0].root


def test_disks_and_points_that_are_not_there_are_named(files: CrashFiles) -> None:
    sink = Sink(files, 0, PIECE_SIZE)
    with ChainWriter.resume(files, sink.path) as writer:
        with pytest.raises(PointNotFound, match="no point 5"):
            open_disk(writer, 5, "d", None)
        with pytest.raises(DiskNotFound, match="no disk e"):
            open_disk(writer, 0, "e", None)
        with pytest.raises(RequestInvalid, match="is at piece 0 of 1"):
            complete_point(writer, 0)
    sink.run(lambda feeder: feeder.finish())
    sink.complete()
    with ChainWriter.resume(files, sink.path) as writer, pytest.raises(RequestInvalid, match="is complete"):
        open_disk(writer, 0, "d", None)


def test_a_disk_that_is_not_done_cannot_be_finished(files: CrashFiles) -> None:
    sink = Sink(files, 0, PIECE_SIZE)
    with pytest.raises(AssertionError, match="at piece 0 of 1"):
        sink.run(lambda feeder: feeder.disk.finish())


# -- the size of maps --------------------------------------------------


def table_bytes(files: CrashFiles, path: Path) -> dict[str, int]:
    """Return the bytes that maps and unit tables of a complete file take, gaps included."""
    with Chain.open(files, FOLDER) as chain:
        file = next(file for file in chain.files if file.path == path)
        point = file.contents.points[0]
        refs = {"map": [], "units": []}  # type: dict[str, list[int]]
        table = file.map_table(point.number, "d")
        for index in range(-(-point.disks[0].size // (PIECES_PER_PAGE * PIECE_SIZE))):
            ref = table.ref(index)
            if ref is not None:
                refs["map"].append(ref.length)
        for index in range(-(-file.contents.units.count // 1024)):
            ref = file._units.ref(index)
            if ref is not None:
                refs["units"].append(ref.length)
    return {name: sum(-(-length // 4096) * 4096 for length in lengths) for name, lengths in refs.items()}


def write_runs(sink: Sink, runs: list[Span], values: random.Random) -> int:
    """Write runs of new pieces, leave everything else; return the number of units."""
    units = 0

    def feed(feeder: Feeder) -> None:
        nonlocal units
        for run in runs:
            feeder.disk.keep_until(run.start)
            for _ in range(run.length):
                feeder.offer(digest_of(values.randrange(1, 1 << 100)))
            if feeder.writer.next_unit % 64 == 0:
                feeder.commit()
        feeder.finish()
        units = feeder.writer.next_unit

    sink.run(feed)
    sink.complete()
    return units


def scattered(rng: random.Random, runs: int, length: int) -> list[Span]:
    starts = sorted(rng.sample(range(0, TIB_PIECES - length, length + 1), runs))
    return [Span(start, length) for start in starts]


@pytest.mark.parametrize("length", [256, 64, 16], ids=["16 MiB runs", "4 MiB runs", "1 MiB runs"])
def test_maps_of_a_tib_stay_below_4_mib_and_64_bytes_for_each_unit(files: CrashFiles, seed: int, length: int) -> None:
    """Changes in runs of a unit or more, spread over a disk of 1 TiB, cost what was promised, point after point.

    The honest worst case is changes of single pieces of 64 KiB that touch nothing else. Each then ends two runs of
    the map, 12 bytes before compression, and a unit takes in 16 of them: about 180 bytes of map for each unit of 1 MiB
    instead of 12. The test below states that bound too. What a map has taken on stays until pieces are written again,
    so a disk whose every second piece was written by another point costs 6 bytes for each piece, 96 MiB for 1 TiB.
    """
    rng = random.Random(seed)
    base = write_runs(Sink(files, 0, 1 << 40), [Span(0, 4096), *scattered(rng, 30, 300)], rng)
    assert base > 0
    cost = 0
    for number in range(1, 4):
        sink = Sink(files, number, 1 << 40)
        units = write_runs(sink, scattered(rng, 6400 // length, length), rng)
        taken = sum(table_bytes(files, sink.path).values())
        cost = max(cost, taken)
        total_units = base + number * units
        assert taken <= (4 << 20) + 64 * total_units
    assert cost > 0


def test_changes_of_single_pieces_cost_at_most_15_bytes_of_map_each(files: CrashFiles, seed: int) -> None:
    rng = random.Random(seed)
    write_runs(Sink(files, 0, 1 << 40), scattered(rng, 40, 100), rng)
    sink = Sink(files, 1, 1 << 40)
    changed = 6000
    write_runs(sink, scattered(rng, changed, 1), rng)
    taken = table_bytes(files, sink.path)
    assert taken["map"] <= (4 << 20) + 15 * changed
    assert taken["units"] <= 16 * (changed // 16 + 1) + 4096


def test_an_increment_without_changes_costs_a_page_for_each_4_gib_in_use(files: CrashFiles) -> None:
    rng = random.Random(4)
    write_runs(Sink(files, 0, 1 << 40), scattered(rng, 40, 100), rng)
    sink = Sink(files, 1, 1 << 40)
    write_runs(sink, [], rng)
    assert table_bytes(files, sink.path)["map"] <= 40 * 2 * 4096


# -- very large disks --------------------------------------------------


def test_a_sparse_disk_of_64_tib_is_written_continued_and_read_in_seconds(files: CrashFiles) -> None:
    pieces = 64 * TIB_PIECES
    started_s = time.monotonic()
    far = pieces - 3

    def full(feeder: Feeder) -> None:
        feeder.offer(digest_of(1))
        feeder.disk.zero_until(far)
        feeder.offer(digest_of(2))
        feeder.finish()

    first = Sink(files, 0, 64 << 40)
    first.run(full)
    first.complete()

    def increment(feeder: Feeder) -> None:
        feeder.disk.keep_until(far + 1)
        feeder.offer(digest_of(3))
        feeder.finish()

    second = Sink(files, 1, 64 << 40)
    second.run(increment)
    second.complete()
    with Chain.open(files, FOLDER) as chain:
        disk = chain.disk(1, "d")
        assert [run.count for run in disk.runs(far - 1, pieces)] == [1, 1, 1, 1]
        assert disk.piece_digests(far, pieces) == digest_of(2) + digest_of(3) + ZERO_DIGEST
    assert len(files.content(second.path)) < 1 << 20
    assert time.monotonic() - started_s < 60


def test_a_map_page_of_zeros_is_absent(files: CrashFiles) -> None:
    sink = Sink(files, 0, 5 * PIECES_PER_PAGE * PIECE_SIZE)

    def feed(feeder: Feeder) -> None:
        feeder.disk.zero_until(PIECES_PER_PAGE + 7)
        feeder.offer(digest_of(1))
        feeder.finish()

    sink.run(feed)
    sink.complete()
    with Chain.open(files, FOLDER) as chain:
        disk = chain.disk(0, "d")
        assert [disk.is_page_empty(index) for index in range(5)] == [True, False, True, True, True]


# -- what a rebuild needs --------------------------------------------------


def test_every_record_says_which_point_it_was_written_for(machine: ProtectedMachine) -> None:
    machine.back_up()
    summary = machine.back_up()
    files = machine.repository.files
    assert isinstance(files, CrashFiles)
    path = machine.repository.chain_folder(summary.chain) / summary.file
    data = files.content(path)
    headers = [
        unpack_header(data[at : at + HEADER_SIZE])
        for at in range(RECORDS_START, len(data), 4096)
        if data[at : at + 8] == b"HFRECORD"
    ]
    assert {header.stamp.point for header in headers} == {2}
    assert {header.kind for header in headers} <= set(RecordKind)


def test_contents_get_a_place_for_each_disk_of_the_machine_once() -> None:
    contents = Contents(
        chain="0" * 32, file="0" * 32, kind="full", unit_size=UNIT, created=SystemClock().now(), holds=(0, 1)
    )
    for number, keys in enumerate((["a", "b"], ["b", "c"])):
        point = Point(
            number=number,
            id="0" * 32,
            session="s",
            machine=PointMachine(machine_id="m", name="m"),
            created=contents.created,
            disks=tuple(PointDisk(disk=0, key=key, size=512) for key in keys),
        )
        contents = with_new_point(contents, point)
    assert [disk.key for disk in contents.disks] == ["a", "b", "c"]
    assert [[disk.disk for disk in point.disks] for point in contents.points] == [[0, 1], [1, 2]]
    assert msgspec.json.decode(msgspec.json.encode(contents), type=Contents) == contents


def test_a_map_page_can_be_cut_anywhere() -> None:
    for cut in range(6):
        page = MapRuns()
        page.append(1, 2)
        page.append(2, 3)
        page.truncate(cut)
        assert page.covered == min(cut, 5)
        assert [page.writer(piece) for piece in range(cut)] == [1, 1, 2, 2, 2, 0xFFFFFFFF][:cut]
