"""What a check has shown is written down: units, points, and what was read when."""

from datetime import UTC, datetime

import pytest

from holdfast.model.points import Health
from holdfast.storage.health.health_file import read_health
from holdfast.storage.health.marking import assess_chain, chain_damage, facts_of, mark_checked
from holdfast.storage.health.verifier import Findings, verify_chain
from tests.fuzz.damage import SmallChain

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def test_a_check_of_everything_marks_points_units_and_bytes(small: SmallChain) -> None:
    region = next(region for region in small.regions(small.paths[0]) if region.name == "unit body")
    small.flip(small.paths[0], region.start, 1)
    found = Findings()
    with small.open() as chain:
        verify_chain(chain, lambda _: None, found=found)
        health = mark_checked(small.files, chain, found, read=NOW)
        damages, again = assess_chain(small.files, "c1", chain)
    assert health == read_health(small.files, small.folder) == again
    assert {mark.number for mark in health.points} == {damage.point for damage in damages}
    assert {damage.chain for damage in damages} == {"c1"}
    assert all(file.reads for file in health.files)
    assert [len(file.units) for file in health.files if file.units] == [1]


def test_a_check_that_finds_nothing_more_clears_the_marks(small: SmallChain) -> None:
    bad = Findings()
    bad.points[2] = "torn"
    with small.open() as chain:
        mark_checked(small.files, chain, bad)
        assert mark_checked(small.files, chain, Findings(), {1}).points[0].state is Health.DAMAGED
        assert mark_checked(small.files, chain, Findings(), {2}).points[0].state is Health.USABLE


def test_points_whose_file_cannot_be_opened_are_known_from_the_metadata(small: SmallChain) -> None:
    small.files.set_content(small.paths[1], b"nothing")
    with small.open() as chain:
        facts = {fact.number: fact for fact in facts_of(small.files, chain)}
    assert facts[2].point_id == small.summaries[1].point_id
    assert set(facts) == {1, 2, 3}


def test_a_damaged_chain_is_named_as_a_whole() -> None:
    damage = chain_damage("c", "gone", "file")
    assert (damage.chain, damage.point, damage.length, damage.file) == ("c", 0, 0, "file")
