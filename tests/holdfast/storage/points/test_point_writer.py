"""A disk goes into a point piece by piece; where it was interrupted and how it was packed does not show."""

import random

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskNotFound, PointNotFound, RequestInvalid
from holdfast.formats.contents import Contents, Point, PointDisk, PointMachine
from holdfast.formats.digests import disk_root, segment_digest
from holdfast.formats.magic import (
    DIGEST_SIZE,
    PIECE_SIZE,
    PIECES_PER_SEGMENT,
    RECORDS_START,
    RecordKind,
)
from holdfast.formats.pages import MapRuns
from holdfast.formats.record import HEADER_SIZE, unpack_header
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.points.point_writer import complete_point, open_disk, with_new_point
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.feeding import FOLDER, KEYS, UNIT, Feeder, Sink, digest_of


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
