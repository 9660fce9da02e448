"""Units hold exactly the wanted pieces, in order, wherever the answers begin a new one."""

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from isal.isal_zlib import crc32

from holdfast.clock import SystemClock
from holdfast.formats.codec import decompress
from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.pipeline.buffers import Buffers
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.packing import Packer
from holdfast.pipeline.sink import Answered, PackedUnit, Standing, Wanted
from holdfast.pipeline.stages import StageTimes

PER_UNIT = 4


class Shelf:
    """A sink that keeps what it is given."""

    digest_key = bytes(32)
    size_bytes = 1 << 30
    unit_size = PER_UNIT * PIECE_SIZE
    round_trip_s = 0.0
    standing = Standing(
        taken=0,
        committed=0,
        written=0,
        stored_bytes=0,
        transferred_bytes=0,
        read_bytes=0,
        resent_bytes=0,
        times=StageTimes(),
    )

    def __init__(self) -> None:
        self.units: list[PackedUnit] = []

    def watch(self, busy: PipeClocks) -> None: ...

    def describe(self, detail: str, left_out: LeftOut | None = None) -> None: ...

    def offer(self, first: int, digests: Sequence[bytes]) -> Answered:
        return Answered(Wanted((), first + len(digests)))

    def keep_until(self, piece: int) -> None: ...

    def zero(self, first: int, end: int) -> None: ...

    def put(self, unit: PackedUnit) -> None:
        self.units.append(unit)

    def tend(self) -> None: ...

    def catch_up(self) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


def piece(number: int) -> bytes:
    return number.to_bytes(4, "big") * (PIECE_SIZE // 4)


def pack(rng: random.Random, compression: Compression) -> tuple[Shelf, list[int]]:
    """Offer chunks with random answers; return what arrived and the pieces that were wanted."""
    shelf, buffers, wanted, place = Shelf(), Buffers(PER_UNIT * PIECE_SIZE), [], 0
    with ThreadPoolExecutor(2) as pool:
        packer = Packer(shelf, pool, buffers, SystemClock(), compression, 3)
        for first in range(0, 200, PER_UNIT):
            slots = sorted(rng.sample(range(PER_UNIT), rng.choice([0, 1, 2, PER_UNIT])))
            if rng.random() < 0.2:
                place = -(-place // PER_UNIT) * PER_UNIT
            buffer = buffers.take()
            buffer[:] = b"".join(piece(first + slot) for slot in range(PER_UNIT))
            digests = [bytes([first + slot]) * 16 for slot in range(PER_UNIT)]
            packer.pack(first, digests, buffer, Wanted(slots, place))
            place += len(slots)
            wanted += [first + slot for slot in slots]
        packer.drain()
    return shelf, wanted


def test_what_is_wanted_arrives_once_and_in_order(seed: int) -> None:
    for compression in (Compression.NONE, Compression.LZ4):
        shelf, wanted = pack(random.Random(seed), compression)
        assert [unit.number for unit in shelf.units] == list(range(len(shelf.units)))
        assert [number for unit in shelf.units for number in unit.pieces] == wanted
        for unit in shelf.units:
            body = b"".join(piece(number) for number in unit.pieces)
            assert unit.digests == [bytes([number]) * 16 for number in unit.pieces]
            assert bytes(decompress(unit.codec, unit.packed, len(body))) == body  # type: ignore[arg-type] # any buffer
            assert unit.body_crc == crc32(body)


def test_an_open_unit_is_sent_when_the_answer_begins_another_and_wants_nothing() -> None:
    shelf, buffers = Shelf(), Buffers(PER_UNIT * PIECE_SIZE)
    with ThreadPoolExecutor(1) as pool:
        packer = Packer(shelf, pool, buffers, SystemClock(), Compression.NONE, 0)
        packer.pack(0, [b"a"] * PER_UNIT, buffers.take(), Wanted([1], 0))
        assert shelf.units == []
        packer.pack(4, [b"b"] * PER_UNIT, buffers.take(), Wanted([], PER_UNIT))
        packer.pack(8, [b"b"] * PER_UNIT, buffers.take(), Wanted([], PER_UNIT))
        packer.drain()
    assert [list(unit.pieces) for unit in shelf.units] == [[1]]
