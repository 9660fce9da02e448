"""The columns of bulk messages come back, and their packed bytes are parts of what arrived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ProtocolError
from holdfast.formats.magic import Codec
from holdfast.formats.mover.bodies import (
    Run,
    pack_pieces,
    pack_runs,
    unpack_digests,
    unpack_runs,
    unpack_stored_unit,
    unpack_unit,
)
from holdfast.formats.mover.messages import PIECES_MAX, Runs, StoredUnit, Unit

PIECES = st.lists(st.integers(0, PIECES_MAX - 1), min_size=1, max_size=64)


@given(PIECES)
def test_a_unit_comes_back(pieces: list[int]) -> None:
    digests = [piece.to_bytes(16, "big") for piece in pieces]
    body = memoryview(pack_pieces(pieces, digests) + b"packed")
    found, named, packed = unpack_unit(Unit(number=1, count=len(pieces), body_crc=7, codec=Codec.NONE), body)
    assert (found, named, bytes(packed)) == (pieces, digests, b"packed")
    assert packed.obj is body.obj


def test_a_piece_behind_every_disk_is_refused() -> None:
    body = memoryview(pack_pieces([PIECES_MAX], [bytes(16)]) + b"packed")
    with pytest.raises(ProtocolError, match=f"names piece {PIECES_MAX}"):
        unpack_unit(Unit(number=1, count=1, body_crc=7, codec=Codec.NONE), body)


def test_a_stored_unit_comes_back() -> None:
    digests = [b"a" * 16, b"b" * 16]
    body = memoryview(b"".join(digests) + b"packed")
    found, packed = unpack_stored_unit(StoredUnit(file=0, number=1, count=2, codec=Codec.LZ4), body)
    assert (found, bytes(packed)) == (digests, b"packed")


def test_digests_come_back() -> None:
    assert unpack_digests(memoryview(b"a" * 16 + b"b" * 16)) == [b"a" * 16, b"b" * 16]


def test_runs_come_back() -> None:
    runs = [Run(5, None, 0), Run(3, 0, 1 << 31), Run(1, 7, 2)]
    assert list(unpack_runs(Runs(first=3, count=3), memoryview(pack_runs(runs)))) == runs


@pytest.mark.parametrize("run", [Run(0, 1, 1), Run(PIECES_MAX, 1, 1), Run(1, 1 << 20, 1)])
def test_a_run_outside_the_limits_is_refused(run: Run) -> None:
    with pytest.raises(ProtocolError, match=r"^run of"):
        list(unpack_runs(Runs(first=1, count=1), memoryview(pack_runs([run]))))
