"""What an intake says is durable can be read, whatever was on its way."""

from collections.abc import Iterator

import msgspec
import pytest
from isal.isal_zlib import crc32

from holdfast.clock import SystemClock
from holdfast.errors import EncodingFailed, RequestInvalid
from holdfast.formats.codec import compress
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE, ZERO_DIGEST
from holdfast.model.compression import Compression
from holdfast.pipeline.sink import PackedUnit
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.chain_file import ChainFile
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.intake import DiskIntake
from holdfast.storage.point_writer import open_disk
from tests.holdfast.pipeline.points import QUICK, Scene

PIECES = 64
PER_UNIT = 4


class Line:
    """An intake at the end of a long line: what is sent arrives when the test says so."""

    def __init__(self, writer: ChainWriter, scene: Scene, options: PipeOptions = QUICK) -> None:
        self.scene = scene
        self.intake = DiskIntake(open_disk(writer, scene.opened.number, "a", None), SystemClock(), options)

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
