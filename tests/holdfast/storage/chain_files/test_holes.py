"""Free and used space in packed numbers says the same as lists of records do."""

import random

from holdfast.storage.chain_files.holes import Holes, UsedSpans

PAGE = 4096


def test_a_record_goes_to_the_first_hole_that_takes_it(seed: int) -> None:
    rng = random.Random(seed)
    holes, expected = Holes(), list[list[int]]()
    for turn in range(300):
        size = rng.choice([1, 1, 2, 15, 16, 17, 40]) * PAGE
        if rng.random() < 0.4:
            holes.add(turn << 20, size)
            expected.append([turn << 20, size])
            continue
        found = next((hole for hole in expected if hole[1] >= size), None)
        assert holes.take(size) == (None if found is None else found[0])
        if found is not None:
            found[0], found[1] = found[0] + size, found[1] - size


def test_what_finds_no_hole_can_be_told_before() -> None:
    holes = Holes()
    for at, pages in enumerate([2, 5, 1]):
        holes.add(at << 20, pages * PAGE)
    assert holes.without_room([3 * PAGE, 3 * PAGE, 2 * PAGE, PAGE, PAGE]) == 3 * PAGE
    assert holes.without_room([]) == 0
    assert holes.take(5 * PAGE) == 1 << 20, "nothing was taken by asking"


def test_used_records_come_in_ascending_order_wherever_they_were_told(seed: int) -> None:
    rng = random.Random(seed)
    offsets = [offset * PAGE for offset in rng.sample(range(1 << 24), 200)]
    lengths = [rng.randrange(5 * PAGE) for _ in offsets]
    used = UsedSpans()
    used.add(3 << 50, 1)
    used.add_all(offsets, lengths)
    there = [(offset, -(-length // PAGE) * PAGE) for offset, length in zip(offsets, lengths, strict=True) if length]
    assert list(used) == [*sorted(there), (3 << 50, PAGE)]
