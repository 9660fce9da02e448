"""Lost pieces are found by digest or by place, and only bytes with the right digest are given."""

import pytest

from holdfast.formats.digests import piece_digests
from holdfast.storage.health.lost_pieces import LostPiece, SameDigests, SamePlaces
from tests.fuzz.damage import KEY, SmallChain


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def a_piece(small: SmallChain, number: int, point: int = 1) -> LostPiece:
    with small.open() as chain:
        return LostPiece("m1", KEY, number, bytes(chain.disk(point, KEY).piece_digests(number, number + 1)))


def test_a_digest_is_found_wherever_the_chain_has_it(small: SmallChain) -> None:
    piece = a_piece(small, 0)
    with small.open() as chain:
        found = SameDigests(chain, [piece.digest], {}).find(piece)
        assert found is not None
        assert piece_digests(found, chain.files[0].keys.digest_key) == [piece.digest]
        everywhere = {file.contents.file: dict.fromkeys(range(99), "torn") for file in chain.files}
        assert SameDigests(chain, [piece.digest], everywhere).find(piece) is None
        assert SameDigests(chain, [], {}).find(piece) is None


def test_a_place_that_is_damaged_gives_nothing(small: SmallChain) -> None:
    piece = a_piece(small, 0)
    region = next(region for region in small.regions(small.paths[0]) if region.name == "unit body")
    small.flip(small.paths[0], region.start, 1)
    with small.open() as chain:
        assert SameDigests(chain, [piece.digest], {}).find(piece) is None


def test_another_chain_of_the_machine_gives_the_same_place(small: SmallChain) -> None:
    other = SmallChain(7)  # the same bytes under another key
    piece = a_piece(small, 3)
    with small.open() as mine, other.open() as theirs:
        key = mine.files[0].keys.digest_key
        found = SamePlaces(theirs, key).find(piece)
        assert found is not None
        assert SameDigests(mine, [piece.digest], {}).find(piece) == found
        assert SamePlaces(theirs, key).find(LostPiece("m2", KEY, 3, piece.digest)) is None
        assert SamePlaces(theirs, key).find(LostPiece("m1", "gone", 3, piece.digest)) is None
        assert SamePlaces(theirs, key).find(LostPiece("m1", KEY, 3, b"\1" * 16)) is None
        assert SamePlaces(theirs, key).find(LostPiece("m1", KEY, 1 << 30, piece.digest)) is None
