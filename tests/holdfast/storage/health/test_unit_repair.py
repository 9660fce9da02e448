"""Lost pieces are stored again in fresh space, and nothing that was named before is written over."""

import pytest

from holdfast.storage.health.lost_pieces import PieceSource, SamePlaces
from holdfast.storage.health.unit_repair import UnitRepair, lost_units
from tests.fuzz.damage import SmallChain


class Nothing:
    """A source that has nothing."""

    def find(self, piece: object) -> bytes | None:
        return None


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def flip(small: SmallChain, unit: int) -> None:
    body = next(r for r in small.regions(small.paths[0]) if r.name == "unit body" and r.unit == unit)
    small.flip(small.paths[0], body.start, 1)


def test_a_unit_that_can_be_read_is_not_lost(small: SmallChain) -> None:
    with small.open() as chain:
        assert lost_units(chain.files[0], {0: "was torn"}) == ([], [0])


def test_a_lost_unit_knows_its_pieces(small: SmallChain) -> None:
    flip(small, 0)
    with small.open() as chain:
        (lost,), fine = lost_units(chain.files[0], {0: "torn", 77: "never was"})
    assert (lost.number, lost.point, sorted(lost.pieces)) == (0, 1, [0, 1, 2, 3])
    assert [piece.piece for piece in lost.pieces.values()] == [0, 1, 2, 3]
    assert fine == [77], "nobody needs it"


def test_what_no_source_has_stays_lost_and_nothing_is_written(small: SmallChain) -> None:
    flip(small, 0)
    before = small.files.content(small.paths[0])
    with small.open() as chain:
        lost, _ = lost_units(chain.files[0], {0: "torn"})
        done = UnitRepair(small.files, chain.files[0], [Nothing()]).run(lost)
    assert (done.pieces, done.healed) == ((0,), ())
    assert small.files.content(small.paths[0]) == before


def test_pieces_are_stored_behind_everything_that_was_named(small: SmallChain) -> None:
    flip(small, 0)
    before = small.files.content(small.paths[0])
    other = SmallChain(7)
    with small.open() as chain, other.open() as theirs:
        lost, _ = lost_units(chain.files[0], {0: "torn"})
        sources: list[PieceSource] = [Nothing(), SamePlaces(theirs, chain.files[0].keys.digest_key)]
        done = UnitRepair(small.files, chain.files[0], sources).run(lost)
    assert (done.pieces, done.healed) == ((0, 4), (0,))
    after = small.files.content(small.paths[0])
    assert after[8192 : len(before)] == before[8192:]
    assert small.verify().is_good
