"""What an intake says is durable can be read, whatever was on its way."""

import threading
from collections.abc import Iterator

import msgspec
import pytest
from isal.isal_zlib import crc32

from holdfast.clock import SystemClock
from holdfast.errors import EncodingFailed, ProtocolError, RequestInvalid, SyncFailed
from holdfast.formats.codec import compress
from holdfast.formats.contents import LeftOut
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE, ZERO_DIGEST
from holdfast.model.compression import Compression
from holdfast.pipeline.sink import PackedUnit
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chain_files.group_commit import CommitGroup
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.pipeline.points import QUICK, Scene

PIECES = 64
PER_UNIT = 4


class Line:
    """An intake at the end of a long line: what is sent arrives when the test says so."""

    def __init__(
        self, writer: ChainWriter, scene: Scene, options: PipeOptions = QUICK, group: CommitGroup | None = None
    ) -> None:
        self.scene = scene
        disk = open_disk(writer, scene.opened.number, "a", None)
        self.intake = DiskIntake(disk, SystemClock(), options, group=group)

    def digests(self, first: int, count: int) -> list[bytes]:
        return piece_digests(self.content(first, count), self.intake.digest_key)

    def content(self, first: int, count: int) -> bytes:
        return bytes(self.scene.reader.content[first * PIECE_SIZE : (first + count) * PIECE_SIZE])

    def offer(self, first: int, count: int = PER_UNIT) -> None:
        wanted = self.intake.offer(first, self.digests(first, count)).result()
        assert list(wanted.slots) == list(range(count))

    def unit(self, number: int, first: int, count: int = PER_UNIT) -> PackedUnit:
        body = self.content(first, count)
        codec, packed = compress(body, Compression.LZ4)
        return PackedUnit(
            number=number,
            pieces=range(first, first + count),
            digests=self.digests(first, count),
            codec=codec,
            packed=packed,
            body_crc=crc32(body),
        )


@pytest.fixture
def scene() -> Scene:
    return Scene(pieces=PIECES)


@pytest.fixture
def writer(scene: Scene) -> Iterator[ChainWriter]:
    with scene.writer() as writer:
        yield writer


def committed(scene: Scene) -> int:
    with ChainFile.open(scene.machine.repository.files, scene.path) as file:
        return file.contents.points[0].disks[0].done


def test_offers_are_answered_before_their_units_come_and_count_only_after(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene, msgspec.structs.replace(QUICK, commit_new_bytes=1))
    for first in range(0, 40, PER_UNIT):
        line.offer(first)
    assert line.intake.standing.taken == 0
    line.intake.put(line.unit(0, 0))
    line.intake.put(line.unit(1, 4))  # makes the first one due for a commit
    writer.finish_commit()
    assert committed(scene) == 4
    line.intake.put(line.unit(2, 8))
    writer.finish_commit()
    line.intake.close()
    assert committed(scene) == 8
    assert line.intake.standing.committed <= 8
    writer.close()
    scene.finish()


def test_a_unit_that_waits_to_be_filled_holds_up_no_commit_for_long(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene, msgspec.structs.replace(QUICK, commit_interval_s=0.0))
    first = line.intake.offer(0, line.digests(0, 1)).result()
    writer.finish_commit()
    second = line.intake.offer(1, line.digests(1, 1)).result()
    line.intake.close()
    assert (first.place, second.place) == (0, PER_UNIT)


def test_pieces_out_of_order_are_refused(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene)
    line.offer(8)
    for first, end in ((4, 8), (60, 65)):
        with pytest.raises(RequestInvalid, match="come after piece 12"):
            line.intake.zero(first, end)
    line.intake.close()


def test_units_out_of_order_are_refused(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene)
    line.offer(0)
    line.offer(4)
    with pytest.raises(RequestInvalid, match="unit 1 comes instead of 0"):
        line.intake.put(line.unit(1, 4))
    line.intake.close()


def test_a_disk_is_not_finished_while_a_wanted_unit_is_missing(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene)
    line.offer(0)
    line.offer(4)
    line.intake.put(line.unit(0, 0))
    with pytest.raises(RequestInvalid, match="unit 1 was wanted and did not come"):
        line.intake.finish()
    line.intake.close()
    writer.close()
    scene.finish()


@pytest.mark.parametrize("harm", ["bytes", "length", "crc", "codec"])
def test_a_unit_that_does_not_give_back_what_was_packed_is_never_stored(
    scene: Scene, writer: ChainWriter, harm: str
) -> None:
    line = Line(writer, scene)
    line.offer(0)
    unit = line.unit(0, 0)
    broken = bytearray(unit.packed)
    broken[len(broken) // 2] ^= 1
    other = line.unit(0, 0, 3)
    changes: dict[str, PackedUnit] = {
        "bytes": msgspec.structs.replace(unit, packed=bytes(broken)),
        "length": msgspec.structs.replace(unit, packed=other.packed, codec=other.codec),
        "crc": msgspec.structs.replace(unit, body_crc=unit.body_crc ^ 1),
        "codec": msgspec.structs.replace(unit, codec=77),
    }
    with pytest.raises(EncodingFailed, match="unit 0 of point"):  # noqa: PT012 - at the one or the other
        line.intake.put(changes[harm])
        line.intake.finish()
    line.intake.close()
    assert committed(scene) == 0


def test_zeros_and_what_the_file_holds_already_are_not_wanted(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene)
    line.offer(0)
    line.intake.put(line.unit(0, 0))
    again = line.intake.offer(4, [line.digests(2, 1)[0], ZERO_DIGEST, *line.digests(6, 1)]).result()
    assert list(again.slots) == [2]
    line.intake.put(line.unit(1, 6, 1))
    line.intake.finish()
    line.intake.close()
    assert line.intake.standing.committed == PIECES
    assert line.intake.standing.times.target_s > 0


@pytest.mark.parametrize("is_opened_again", [False, True])
def test_what_is_said_behind_the_commit_of_the_last_piece_is_kept(scene: Scene, *, is_opened_again: bool) -> None:
    left_out = LeftOut(deleted=True, swap=((0, 8 * PIECE_SIZE),))
    with scene.writer() as writer:
        group = CommitGroup(writer, SystemClock(), QUICK)
        line = Line(writer, scene, group=group)
        line.intake.describe("full: at first")
        line.intake.zero(0, PIECES)
        group.commit()
        if is_opened_again:
            line.intake.close()
            line = Line(writer, scene)
        line.intake.describe("full: in the end", left_out)
        line.intake.finish()
        line.intake.close()
    with ChainFile.open(scene.machine.repository.files, scene.path) as file:
        disk = file.contents.points[0].disks[0]
    assert (disk.done, disk.detail, disk.left_out) == (PIECES, "full: in the end", left_out)


def test_what_waits_for_a_unit_that_does_not_come_is_bounded(
    scene: Scene, writer: ChainWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.storage.intake.disk_intake.AHEAD_MAX", 3 * PER_UNIT)
    line = Line(writer, scene)
    for first in range(0, 3 * PER_UNIT, PER_UNIT):
        line.offer(first)
    with pytest.raises(ProtocolError, match="more than 12 pieces wait for unit 0, which did not come"):
        line.offer(12)
    with pytest.raises(ProtocolError, match="more than 12 pieces"):
        line.intake.zero(12, 14)
    with pytest.raises(ProtocolError, match="more than 12 pieces"):
        line.intake.keep_until(20)
    line.intake.close()


def test_what_waits_does_not_count_any_more_once_its_unit_has_come(
    scene: Scene, writer: ChainWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.storage.intake.disk_intake.AHEAD_MAX", 2 * PER_UNIT)
    line = Line(writer, scene)
    for number in range(8):
        line.offer(number * PER_UNIT)
        line.intake.put(line.unit(number, number * PER_UNIT))
        line.intake.catch_up()
    line.intake.close()
    assert line.intake.standing.taken == 8 * PER_UNIT


def test_a_unit_that_waits_to_be_filled_is_closed_after_a_while(
    scene: Scene, writer: ChainWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.storage.intake.disk_intake.UNIT_OPEN_MAX", 8)
    line = Line(writer, scene)
    line.intake.offer(0, line.digests(0, 1))
    places = [line.intake.offer(at, [ZERO_DIGEST] * 2).result().place for at in range(1, 17, 2)]
    line.intake.close()
    assert places == [1] * 5 + [PER_UNIT] * 3


def test_units_bring_what_was_wanted_and_nothing_else(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene)
    line.offer(0)
    for wrong in (line.unit(0, 4), line.unit(0, 0, 3), line.unit(0, 1, 4)):
        with pytest.raises(ProtocolError, match=r"unit 0 brings \d pieces that were not wanted so"):
            line.intake.put(wrong)
    line.intake.put(line.unit(0, 0))
    with pytest.raises(ProtocolError, match="unit 1 brings 4 pieces"):
        line.intake.put(line.unit(1, 4))
    line.intake.close()


def test_nothing_more_is_promised_in_a_unit_that_came(scene: Scene, writer: ChainWriter) -> None:
    line = Line(writer, scene)
    line.offer(0, 2)
    line.intake.put(line.unit(0, 0, 2))
    second = line.intake.offer(2, line.digests(2, 2)).result()
    line.intake.close()
    assert second.place == PER_UNIT


def test_a_disk_that_cannot_leave_its_group_in_order_stops_its_threads(scene: Scene, writer: ChainWriter) -> None:
    before = set(threading.enumerate())
    group = CommitGroup(writer, SystemClock(), QUICK)
    line = Line(writer, scene, group=group)
    line.offer(0)
    line.intake.put(line.unit(0, 0))
    while line.intake.standing.taken == 0:
        line.intake.tend()
    files = scene.machine.repository.files
    assert isinstance(files, CrashFiles)
    files.fail_sync = lambda _number, _waiting: ()
    with pytest.raises(SyncFailed):
        writer.handle.sync()
    with pytest.raises(SyncFailed):
        line.intake.close()
    assert set(threading.enumerate()) <= before
    line.intake.close()
