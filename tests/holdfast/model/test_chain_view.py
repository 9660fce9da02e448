"""The view of a chain sums up its files and points."""

from datetime import UTC, datetime

import msgspec

from holdfast.model.chain_view import ChainView, FileView, PointView

WHEN = datetime(2026, 11, 21, tzinfo=UTC)


def point(number: int, machine: str = "web", trouble: str = "") -> PointView:
    return PointView(
        number=number,
        id=f"{number:032x}",
        machine=machine,
        created=WHEN,
        is_complete=True,
        size_bytes=1,
        trouble=trouble,
    )


def view(*files: FileView) -> ChainView:
    return ChainView(name="a/b/c", id="0" * 32, is_encrypted=False, unit_size=1 << 20, files=files)


FULL = FileView(name="1", kind="full", size_bytes=10, points=(point(3), point(1, "db")))
INCREMENT = FileView(name="2", kind="increment", size_bytes=5, points=(point(2),))


def test_points_stand_in_their_order_whatever_file_they_are_in() -> None:
    assert [found.number for found in view(FULL, INCREMENT).points] == [1, 2, 3]


def test_machines_and_sizes_are_those_of_all_files() -> None:
    found = view(FULL, INCREMENT)
    assert (found.machines, found.size_bytes) == (("db", "web"), 15)


def test_a_chain_is_sound_unless_something_speaks_against_it() -> None:
    found = view(FULL, INCREMENT)
    assert found.is_sound
    assert not msgspec.structs.replace(found, troubles=("no metadata",)).is_sound
    assert not view(msgspec.structs.replace(FULL, trouble="gone")).is_sound
    assert not view(msgspec.structs.replace(FULL, points=(point(1, trouble="gone"),))).is_sound
