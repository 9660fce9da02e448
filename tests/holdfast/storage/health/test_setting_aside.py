"""Increments that cannot be read are set aside with those behind them, and their numbers are not used again."""

import pytest

from holdfast.model.points import Health
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.health.health_file import read_health
from holdfast.storage.health.setting_aside import files_behind, highest_set_aside, set_aside
from tests.fuzz.damage import SmallChain

FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def test_what_goes_is_the_first_broken_increment_and_all_behind_it(small: SmallChain) -> None:
    assert files_behind(small.files, small.folder, []) == []
    assert files_behind(small.files, small.folder, [FULL]) == []
    assert files_behind(small.files, small.folder, [SECOND]) == [THIRD, SECOND]
    assert files_behind(small.files, small.folder, [THIRD]) == [THIRD]
    assert files_behind(small.files, small.folder, [FULL, THIRD]) == []


def test_files_get_another_name_and_their_points_are_missing(small: SmallChain) -> None:
    small.files.set_content(small.paths[1], b"nothing")
    small.files.create(small.folder / f"{SECOND}.damaged").close()
    set_aside(small.files, small.folder, None, [THIRD, SECOND])
    names = small.files.names(small.folder)
    assert {f"{THIRD}.damaged", f"{SECOND}.damaged", f"{SECOND}.damaged-2"} <= set(names)
    assert small.files.content(small.folder / f"{SECOND}.damaged-2") == b"nothing"
    marks = read_health(small.files, small.folder).points
    assert {mark.number: mark.state for mark in marks} == {2: Health.MISSING, 3: Health.MISSING}
    with small.open() as chain:
        check_chain(small.files, chain)
        assert [point.number for _, point in chain.points()] == [1]
    assert highest_set_aside(names) == 3
    assert highest_set_aside([FULL]) == 0
    set_aside(small.files, small.folder, None, [])


def test_the_number_of_a_removed_file_is_taken_while_it_can_be_taken_back() -> None:
    assert highest_set_aside([FULL, f"{THIRD}.removed-20261121T000000Z", f"{SECOND}.damaged-2"]) == 3
