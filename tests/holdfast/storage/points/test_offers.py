"""Every piece gets a place once, and only when its bytes are not there."""

import random
from pathlib import Path

from holdfast.formats.magic import DIGEST_SIZE, PIECES_PER_SEGMENT, ZERO_DIGEST
from holdfast.storage.points.offers import NO_DIGESTS, PROMISED, OfferSorter, parent_digests
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.feeding import TIB_PIECES, UNIT, Feeder, Sink, digest_of


def test_the_same_digest_is_wanted_once(seed: int) -> None:
    rng = random.Random(seed)
    stored: dict[bytes, int] = {}

    def feed(feeder: Feeder) -> None:
        sorter = OfferSorter(feeder.writer, None)
        for first in range(0, 512, 16):
            digests = [digest_of(rng.randrange(40)) for _ in range(16)]
            found = sorter.sort_out(first, digests)
            assert found.first_new == len(stored)
            for slot in found.slots:
                assert digests[slot] not in stored
                stored[digests[slot]] = len(stored)
            assert found.places == [PROMISED + stored[digest] for digest in digests if digest != ZERO_DIGEST]
        assert sorter.next_place == len(stored) <= 39

    Sink(CrashFiles([Path("/")]), 0, 512 << 16).run(feed)


def test_a_unit_that_is_begun_leaves_the_rest_of_the_one_before(seed: int) -> None:
    del seed

    def feed(feeder: Feeder) -> None:
        sorter = OfferSorter(feeder.writer, None)
        per_unit = feeder.writer.pieces_per_unit
        sorter.begin_unit()
        assert sorter.next_place == 0
        sorter.sort_out(0, [digest_of(1)])
        sorter.begin_unit()
        sorter.begin_unit()
        assert sorter.sort_out(1, [digest_of(2)]).first_new == per_unit == UNIT >> 16

    Sink(CrashFiles([Path("/")]), 0, 512 << 16).run(feed)


def test_without_a_parent_everything_was_zeros() -> None:
    assert parent_digests(None, 5) == NO_DIGESTS == bytes(PIECES_PER_SEGMENT * DIGEST_SIZE)


def test_behind_the_end_of_the_parent_everything_was_zeros() -> None:
    files = CrashFiles([Path("/")])
    first = Sink(files, 0, 100 << 16)

    def fill(feeder: Feeder) -> None:
        for value in range(1, 101):
            feeder.offer(digest_of(value))
        feeder.finish()

    first.run(fill)
    first.complete()

    def look(feeder: Feeder) -> None:
        parent = feeder.disk.parent
        assert parent is not None
        whole = parent_digests(parent, 0)
        assert whole[: 100 * DIGEST_SIZE] == b"".join(digest_of(value) for value in range(1, 101))
        assert whole[100 * DIGEST_SIZE :] == bytes(924 * DIGEST_SIZE)
        assert parent_digests(parent, TIB_PIECES // PIECES_PER_SEGMENT - 1) == NO_DIGESTS
        sorter = OfferSorter(feeder.writer, parent)
        assert sorter.sort_out(0, [digest_of(1), digest_of(2)]).places == []
        assert sorter.sort_out(99, [digest_of(100), digest_of(7000)]).slots == [1]

    Sink(files, 1, 200 << 16).run(look)
