"""The port between the two halves of the backup pipe.

The first half, `holdfast.pipeline.backup`, is where the disk is read; the second is where its restore point is kept.
They may be in one process, or two movers with a network in between: so the first half *offers* pieces by their digests
before it sends any byte, goes on with others while the answer is on its way, and sends what is wanted as packed units.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import Codec
from holdfast.formats.record import Buffer
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.stages import StageTimes


class Wanted(msgspec.Struct, frozen=True):
    """Which of the pieces that were offered have to be sent."""

    slots: Sequence[int]
    """Their indexes, in order."""
    place: int
    """The place of the first of them, or of the next that will be wanted; the others follow one by one.

    A place is unit number times pieces per unit, and slot. When it lies in a new unit, the one before is not filled
    any further.
    """


class PackedUnit(msgspec.Struct, frozen=True, kw_only=True):
    """Pieces that are compressed together."""

    number: int
    pieces: Sequence[int]
    digests: Sequence[bytes]
    codec: Codec
    packed: Buffer
    body_crc: int
    """CRC-32 of the pieces, one behind the other, before they were compressed.

    What is stored is decoded and compared with it: between here and there are a codec, a cipher and maybe a network.
    The digests would do as well, at five times the time.
    """


class Answer(Protocol):
    """An answer that may still be on its way."""

    def done(self) -> bool:
        """Return whether it is there."""
        ...

    def result(self) -> Wanted:
        """Return it, and wait for it before; raises what went wrong on the other side."""
        ...


class Answered(msgspec.Struct, frozen=True):
    """An answer that is there at once."""

    wanted: Wanted

    def done(self) -> bool:
        """Return True."""
        return True

    def result(self) -> Wanted:
        """Return the answer."""
        return self.wanted


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sink is."""

    taken: int
    """The first piece that is not in the restore point yet."""
    committed: int
    """The first piece that is not durable yet."""
    written: int
    """The first unit that is not written yet; what those before it were made of may be used for something else."""
    stored_bytes: int
    """By which the chain file has grown since the disk was begun."""
    transferred_bytes: int
    """Sent as units over all attempts."""
    read_bytes: int
    """Offered over all attempts."""
    resent_bytes: int
    """Sent again because an earlier attempt died after its last commit."""
    times: StageTimes


class DiskSink(Protocol):
    """A disk of a restore point that is being written. Pieces come in ascending order. Use from one thread."""

    @property
    def digest_key(self) -> bytes:
        """Return the key of the piece digests."""
        ...

    @property
    def size_bytes(self) -> int:
        """Return the size the disk was begun with."""
        ...

    @property
    def unit_size(self) -> int:
        """Return how many bytes are compressed and encrypted together."""
        ...

    @property
    def standing(self) -> Standing:
        """Return how far it is."""
        ...

    @property
    def round_trip_s(self) -> float:
        """Return how long an answer takes at least; 0 when it is there at once."""
        ...

    def watch(self, busy: PipeClocks) -> None:
        """Count from now on in these clocks how long storing takes, and the line to it."""
        ...

    def describe(self, detail: str, left_out: LeftOut | None = None) -> None:
        """Say in words how the disk is read and why; it goes into the restore point.

        So does what the point lacks because the guest did not need it; None leaves that as it was said last.
        """
        ...

    def offer(self, first: int, digests: Sequence[bytes]) -> Answer:
        """Offer the pieces from ``first`` on, all of one unit of the disk, by their digests.

        What lies between the pieces before and ``first`` stays as at the parent point.
        """
        ...

    def keep_until(self, piece: int) -> None:
        """Leave the pieces up to ``piece`` as at the parent point."""
        ...

    def zero(self, first: int, end: int) -> None:
        """Make the pieces ``[first, end)`` zeros; what lies before ``first`` stays as at the parent point."""
        ...

    def put(self, unit: PackedUnit) -> None:
        """Take a unit of wanted pieces. Units come in the order of their numbers."""
        ...

    def tend(self) -> None:
        """Write and commit what is due; to be called now and then while nothing else is."""
        ...

    def catch_up(self) -> None:
        """Return when more of what was said may be taken, `standing` says how much; all units that can be are put.

        It may be called again as long as it is not enough.
        """
        ...

    def finish(self) -> None:
        """Return once the whole disk is durable."""
        ...

    def close(self) -> None:
        """Stop what is on its way. Everything that was committed stays. Idempotent."""
        ...


class EarlierDisk(Protocol):
    """The disk as it is at the parent point."""

    @property
    def size_bytes(self) -> int:
        """Return its size then."""
        ...

    @property
    def change_id(self) -> str | None:
        """Return the id of its state then, None when changes were not tracked."""
        ...

    @property
    def left_out(self) -> LeftOut | None:
        """Return what the point lacks because the guest did not need it."""
        ...

    def piece_digests(self, start: int, end: int) -> bytes | bytearray:
        """Return the joined digests of the pieces ``[start, end)``."""
        ...


class WritableDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of an unfinished point, open for writing."""

    machine: str
    """Name of its machine."""
    change_id: str | None
    """Of the state that the point was begun for."""
    at_rest: bool = False
    """Whether the machine was switched off when its disks were frozen."""
    moves: int = 0
    """How often it was begun again because the disk had moved while it was read."""
    sink: DiskSink
    earlier: EarlierDisk | None
    """None when the parent point does not have it."""
