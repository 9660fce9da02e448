"""Restore points and marks: written twice, moved by merges, forgotten, and set back."""

import pytest
from msgspec.structs import replace

from holdfast.catalog.database import Catalog
from holdfast.catalog.points import ChainMark, PointKind, PointState
from holdfast.errors import ChainBroken, PointNotFound, RequestInvalid
from holdfast.model.ids import ChainId, MachineId, PointId, RepositoryName
from tests.holdfast.catalog.samples import POINT, START, point

CELLAR, CHAIN = POINT.repository, POINT.chain_id
ATTIC, OTHER_CHAIN = RepositoryName("attic"), ChainId("d" * 32)


def numbers(catalog: Catalog) -> list[int]:
    return [known.number for known in catalog.points.list()]


def mark_of(catalog: Catalog) -> ChainMark:
    mark = catalog.points.mark(CELLAR, CHAIN)
    assert mark is not None
    return mark


def test_a_point_recorded_twice_is_there_once(catalog: Catalog) -> None:
    catalog.points.record(POINT)
    catalog.points.record(POINT)
    assert catalog.points.list() == (POINT,)


def test_a_later_commit_of_the_same_file_brings_a_point_up_to_date(catalog: Catalog) -> None:
    later = replace(POINT, generation=6, stored_bytes=2)
    catalog.points.record(POINT)
    catalog.points.record(later)
    catalog.points.record(POINT)
    assert catalog.points.list() == (later,)
    assert mark_of(catalog).generation == 6


def test_a_merge_moves_a_point_to_another_file(catalog: Catalog) -> None:
    moved = replace(POINT, file_id="e" * 32, generation=2, kind=PointKind.FULL)
    catalog.points.record(POINT)
    catalog.points.record(moved)
    assert catalog.points.list() == (moved,)
    assert (mark_of(catalog).file_id, mark_of(catalog).generation) == ("e" * 32, 2)


def test_the_newest_point_is_the_one_with_the_highest_number(catalog: Catalog) -> None:
    for number in (2, 3, 1):
        catalog.points.record(point(number))
    assert catalog.points.newest(CELLAR, CHAIN) == point(3)


def test_an_unknown_chain_has_neither_newest_point_nor_mark(catalog: Catalog) -> None:
    catalog.points.record(POINT)
    assert catalog.points.newest(CELLAR, OTHER_CHAIN) is None
    assert catalog.points.newest(ATTIC, CHAIN) is None
    assert catalog.points.mark(CELLAR, OTHER_CHAIN) is None


def test_the_mark_is_the_newest_state_ever_recorded(catalog: Catalog) -> None:
    for number in (1, 3, 2):
        catalog.points.record(point(number, root=f"{number:064x}"))
    mark = mark_of(catalog)
    assert (mark.number, mark.point_id, mark.root) == (3, f"{3:032x}", f"{3:064x}")
    # The clock ticks at each record; the second brought the newest point.
    assert (mark.recorded - START).seconds == 2


def test_the_mark_survives_the_points_it_was_made_of(catalog: Catalog) -> None:
    catalog.points.record(POINT)
    before = mark_of(catalog)
    assert catalog.points.forget(CELLAR, [POINT.point_id]) == 1
    assert catalog.points.list() == ()
    catalog.points.record(point(1))
    assert mark_of(catalog) == before


def test_a_second_history_of_a_chain_is_refused_and_leaves_no_trace(catalog: Catalog) -> None:
    catalog.points.record(POINT)
    before = mark_of(catalog)
    forked = replace(POINT, point_id="9" * 32, generation=9)
    with pytest.raises(ChainBroken, match=f"{'9' * 32} in the place of point {POINT.point_id}"):
        catalog.points.record(forked)
    assert catalog.points.list() == (POINT,)
    assert mark_of(catalog) == before


def test_a_chain_that_was_forgotten_may_start_over(catalog: Catalog) -> None:
    for number in (1, 2):
        catalog.points.record(point(number))
    assert catalog.points.forget_chain(CELLAR, CHAIN) == 2
    assert catalog.points.mark(CELLAR, CHAIN) is None
    catalog.points.record(point(1, generation=1))
    assert mark_of(catalog).number == 1


def test_forgetting_is_limited_to_the_repository_and_may_be_repeated(catalog: Catalog) -> None:
    copy = replace(POINT, repository=ATTIC)
    catalog.points.record(POINT)
    catalog.points.record(copy)
    assert catalog.points.forget(CELLAR, [POINT.point_id, PointId("0" * 32)]) == 1
    assert catalog.points.forget(CELLAR, [POINT.point_id]) == 0
    assert catalog.points.forget(CELLAR, []) == 0
    assert catalog.points.list() == (copy,)


def test_the_state_of_a_point_is_kept_when_its_record_is_repeated(catalog: Catalog) -> None:
    catalog.points.record(POINT)
    catalog.points.set_state(CELLAR, POINT.point_id, PointState.DAMAGED)
    catalog.points.set_state(CELLAR, POINT.point_id, PointState.DAMAGED)
    catalog.points.record(POINT)
    assert [known.state for known in catalog.points.list()] == [PointState.DAMAGED]


def test_an_unknown_point_has_no_state(catalog: Catalog) -> None:
    with pytest.raises(PointNotFound, match=POINT.point_id):
        catalog.points.set_state(CELLAR, POINT.point_id, PointState.MISSING)


def test_a_list_of_points_is_filtered_and_newest_first(catalog: Catalog) -> None:
    for number in range(1, 5):
        catalog.points.record(point(number))
    other = {"repository": ATTIC, "machine_id": "machine-8", "machine_name": "mail"}
    catalog.points.record(point(5, **other, chain_id=OTHER_CHAIN))
    assert numbers(catalog) == [5, 4, 3, 2, 1]
    listed = catalog.points.list
    assert [p.number for p in listed(machine="files", limit=2)] == [4, 3]
    assert [p.number for p in listed(machine="machine-8")] == [5]
    assert [p.number for p in listed(repository=CELLAR, machine="mail")] == []
    assert [p.number for p in listed(repository=ATTIC)] == [5]
    assert [p.number for p in listed(chain_id=CHAIN)] == [4, 3, 2, 1]


def test_a_list_of_points_without_bounds_is_refused(catalog: Catalog) -> None:
    with pytest.raises(RequestInvalid, match="limit 0"):
        catalog.points.list(limit=0)


def test_a_merged_point_is_known_where_it_is_now(catalog: Catalog) -> None:
    catalog.points.record(POINT)
    place = {"file_id": "e" * 32, "file_name": "files-1.hfc", "generation": 9, "kind": PointKind.FULL}
    for _ in range(2):
        assert catalog.points.move(CELLAR, POINT.point_id, **place)  # type: ignore[arg-type]
    assert catalog.points.list() == (replace(POINT, **place),)
    assert not catalog.points.move(CELLAR, PointId("0" * 32), **place)  # type: ignore[arg-type]


def test_a_chain_that_moves_takes_its_points_and_its_mark_along(catalog: Catalog) -> None:
    for number in (1, 2):
        catalog.points.record(replace(point(number), chain="machines/web-01-11111111/000001-1a2b3c4d"))
    mark = mark_of(catalog)
    place = "machines/web-02-00000000/000001-1a2b3c4d"
    machine = (MachineId("m2"), "web 02")
    catalog.points.record(replace(point(1), repository=ATTIC))  # of an earlier stay there
    assert catalog.points.relocate(CELLAR, CHAIN, to=ATTIC, chain=place, machine=machine) == 2
    assert catalog.points.relocate(CELLAR, CHAIN, to=ATTIC, chain=place, machine=machine) == 0
    known = catalog.points.list()
    assert {(one.repository, one.chain, one.machine_id, one.machine_name) for one in known} == {
        (ATTIC, place, MachineId("m2"), "web 02")
    }
    assert len(known) == 2
    assert catalog.points.mark(CELLAR, CHAIN) is None
    assert catalog.points.mark(ATTIC, CHAIN) == replace(mark, repository=ATTIC)


def test_a_mapped_chain_stays_in_its_repository(catalog: Catalog) -> None:
    place = "machines/web-01-11111111/000001-1a2b3c4d"
    catalog.points.record(replace(POINT, chain=place))
    mark = mark_of(catalog)
    machine = (MachineId("m2"), "web 02")
    assert catalog.points.relocate(CELLAR, CHAIN, to=CELLAR, chain=place, machine=machine) == 1
    assert [one.machine_id for one in catalog.points.list()] == ["m2"]
    assert mark_of(catalog) == mark
