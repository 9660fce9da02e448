"""A volume is read inside its bounds only, and not without end."""

import pytest

from holdfast.guest.window import DAMAGED, Disk, Implausible, Window, reason_of
from holdfast.model.spans import Span
from tests.holdfast.guest.drives import MIB, disk, reader

DATA = bytes(number * 7 % 251 for number in range(300_000))


def test_a_volume_in_pieces_reads_as_one() -> None:
    volume = Window(disk(DATA), (Span(200_000, 50_000), Span(0, 70_000), Span(100_000, 9)))
    whole = DATA[200_000:250_000] + DATA[:70_000] + DATA[100_000:100_009]
    assert volume.size == len(whole)
    for offset, length in ((0, len(whole)), (49_999, 2), (49_990, 70_019), (120_000, 9), (5, 0)):
        assert volume.read(offset, length) == whole[offset : offset + length]


def test_places_of_a_span_lie_on_the_disk() -> None:
    volume = Window(disk(DATA), (Span(1000, 10), Span(500, 10)))
    assert list(volume.places(Span(8, 4))) == [Span(1008, 2), Span(500, 2)]


@pytest.mark.parametrize("offset,length", [(-1, 2), (299_999, 2), (1 << 70, 1)])
def test_nothing_outside_is_read(offset: int, length: int) -> None:
    volume = Window(disk(DATA), (Span(0, len(DATA)),))
    with pytest.raises(Implausible, match="points to byte"):
        volume.read(offset, length)
    assert volume.peek(offset, length) == b""
    with pytest.raises(Implausible):
        list(volume.places(Span(offset, length)))


def test_reads_are_counted_and_end() -> None:
    volume = Window(disk(DATA), (Span(0, len(DATA)),))
    with pytest.raises(Implausible, match="larger than a volume of this size can have"):
        [volume.read(0, 1) for _ in range(100_000)]
    volume = Window(disk(DATA), (Span(0, len(DATA)),))
    with pytest.raises(Implausible, match="larger than a volume of this size can have"):
        [volume.read(0, len(DATA)) for _ in range(1000)]


def test_chunks_that_were_read_are_kept_for_a_while() -> None:
    asked: list[int] = []
    read = reader(bytes(8 * MIB))

    def counted(offset: int, length: int) -> bytes:
        asked.append(offset)
        return read(offset, length)

    source = Disk(counted, 8 * MIB)
    for _ in range(3):
        source.read(65_530, 12)
    assert asked == [0, 65_536]
    for offset in range(0, 8 * MIB, 65_536):
        source.read(offset, 1)
    source.read(0, 1)
    assert asked.count(0) == 2


def test_damage_has_a_reason() -> None:
    assert reason_of(Implausible("it is odd")) == "it is odd"
    assert {reason_of(kind()) for kind in DAMAGED[1:]} == {"its metadata is damaged"}
