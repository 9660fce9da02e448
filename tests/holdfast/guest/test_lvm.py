"""Logical volumes are looked into where they are plain runs on this disk that nothing else stands on."""

import pytest

from holdfast.guest.lvm import volumes
from holdfast.guest.volume import Part
from holdfast.guest.window import Disk, Implausible, Window
from holdfast.model.spans import Span
from tests.holdfast.guest.drives import MIB, linear, lvm_text, lvm_volume, physical_volume, reader

SIZE = 64 * MIB
START = 3 * MIB


def physical(data: bytes) -> Window:
    return Window(Disk(reader(bytes(START) + data.ljust(SIZE, b"\0")), START + SIZE), (Span(START, SIZE),))


def found(text: str, *, wrap: bool = False) -> list[Part]:
    return list(volumes(physical(physical_volume(text, wrap=wrap)), "partition 2"))


def at(first: int, count: int) -> Span:
    return Span(START + (1 + first) * MIB, count * MIB)


@pytest.mark.parametrize("wrap", [False, True])
def test_plain_volumes_are_found_where_they_lie(wrap: bool) -> None:
    text = lvm_text(
        lvm_volume("root", linear(4, 6, 20), linear(0, 4, 30)) + lvm_volume("swap_1", linear(0, 2, 0)),
    )
    assert found(text, wrap=wrap) == [
        Part(place="partition 2, volume vg0/root", spans=(at(30, 4), at(20, 6))),
        Part(place="partition 2, volume vg0/swap_1", spans=(at(0, 2),)),
    ]


def test_volumes_that_reach_to_other_disks_are_not_looked_into() -> None:
    other = 'pv1 {\nid = "zzzzzz"\npe_start = 2048\npe_count = 60\n}'
    text = lvm_text(
        lvm_volume("both", linear(0, 4, 0), linear(4, 4, 0, "pv1")) + lvm_volume("there", linear(0, 4, 9, "pv1")),
        more=other,
    )
    (only,) = found(text)
    assert (only.place, only.obstacle) == ("partition 2, volume vg0/both", "parts of it lie on other disks")


@pytest.mark.parametrize(
    "segment",
    [
        'type = "striped"\nstripe_count = 2\nstripes = ["pv0", 0, "pv0", 9]',
        'type = "mirror"\nmirror_count = 1\nmirrors = ["a", 0]\nstripes = ["pv0", 0]',
        'type = "raid1"\nraids = ["pv0", "b"]',
    ],
)
def test_other_kinds_are_not_looked_into(segment: str) -> None:
    (only,) = found(lvm_text(lvm_volume("data", (0, 4, segment))))
    assert "not a plain run" in only.obstacle


def test_what_another_volume_stands_on_is_not_looked_into() -> None:
    snapshot = (0, 4, 'type = "snapshot"\nchunk_size = 8\norigin = "root"\ncow_store = "cow"')
    text = lvm_text(
        lvm_volume("root", linear(0, 4, 0))
        + lvm_volume("cow", linear(0, 2, 10))
        + lvm_volume("snapshot0", snapshot)
        + lvm_volume("pool_tdata", linear(0, 8, 20))
        + lvm_volume("pool", (0, 8, 'type = "thin-pool"\nmetadata = "pool_tmeta"\npool = "pool_tdata"'))
        + lvm_volume("free", linear(0, 1, 40))
    )
    assert {part.place.split("/")[1]: part.obstacle for part in found(text)} == {
        "root": "another logical volume stands on it",
        "cow": "another logical volume stands on it",
        "pool_tdata": "another logical volume stands on it",
        "free": "",
    }


def test_a_gap_between_segments_is_refused() -> None:
    with pytest.raises(Implausible, match="contradicts itself"):
        found(lvm_text(lvm_volume("root", linear(0, 4, 0), linear(5, 4, 10))))


def test_segments_outside_of_the_physical_volume_are_refused() -> None:
    with pytest.raises(Implausible, match="speaks of byte"):
        found(lvm_text(lvm_volume("root", linear(0, 400, 0))))


@pytest.mark.parametrize(
    "text",
    [
        lvm_text("").replace("extent_size", "extend_size"),
        lvm_text(lvm_volume("root", linear(0, 4, 0))).replace("segment_count = 1", "segment_count = 2"),
        lvm_text(lvm_volume("root", linear(0, 4, 0))).replace("start_extent = 0", 'start_extent = "0"'),
    ],
)
def test_missing_words_are_refused(text: str) -> None:
    with pytest.raises(Implausible):
        found(text)


@pytest.mark.parametrize("place", [520, 540, 600, 4100, 4120, 4140, 4096 + 700])
def test_a_flipped_bit_is_noticed(place: int) -> None:
    data = bytearray(physical_volume(lvm_text(lvm_volume("root", linear(0, 4, 0)))))
    data[place] ^= 4
    with pytest.raises(Implausible):
        list(volumes(physical(bytes(data)), "disk"))


def test_a_group_without_volumes_has_none() -> None:
    assert found(lvm_text("")) == []
