"""Space is written again only when neither superblock names what was there."""

import random

from holdfast.storage.chain_files.holes import UsedSpans
from holdfast.storage.chain_files.space import Space

PAGE = 4096


def test_new_space_lies_behind_everything() -> None:
    space = Space(8192)
    assert [space.append(PAGE), space.take(2 * PAGE), space.end] == [8192, 12288, 20480]


def test_what_a_commit_frees_is_handed_out_after_the_next_commit_and_not_before() -> None:
    space = Space(0)
    old = space.take(PAGE)
    for _ in range(2):
        space.commit_started()
        space.commit_finished()
    space.release(old, PAGE - 100)
    assert space.take(PAGE) != old
    space.commit_started()
    assert space.take(PAGE) != old, "the superblock of the commit before still names it"
    space.commit_finished()
    assert space.take(PAGE) != old
    space.commit_started()
    assert space.take(PAGE) != old, "the second commit is not durable yet"
    space.commit_finished()
    assert space.take(PAGE) == old


def test_a_larger_hole_is_used_in_parts() -> None:
    space = Space(0)
    hole = space.take(3 * PAGE)
    space.release(hole, 3 * PAGE)
    for _ in range(2):
        space.commit_started()
        space.commit_finished()
    assert [space.take(PAGE), space.take(2 * PAGE), space.take(PAGE)] == [hole, hole + PAGE, 3 * PAGE]


def test_no_byte_named_by_either_superblock_is_ever_handed_out(seed: int) -> None:
    rng = random.Random(seed)
    space = Space(8192)
    names: list[dict[int, int]] = [{}, {}]  # by the two superblocks, older first
    live: dict[int, int] = {}
    most = 0
    for _ in range(400):
        for _ in range(rng.randrange(6)):
            size = rng.randrange(1, 4) * PAGE
            offset = space.take(size)
            taken = {**names[0], **names[1], **live}
            assert all(offset + size <= other or other + length <= offset for other, length in taken.items())
            live[offset] = size
        most = max(most, sum(live.values()))
        for offset in rng.sample(sorted(live), rng.randrange(len(live) // 2 + 1)):
            space.release(offset, live.pop(offset))
        space.commit_started()
        space.commit_finished()
        names = [names[1], dict(live)]
    assert space.end < 8192 + 12 * most, "freed space is used"


def test_what_no_record_is_in_can_be_taken_again() -> None:
    space = Space(8192 + 10 * PAGE)
    used = UsedSpans()
    used.add(8192 + 7 * PAGE, 100)
    used.add_all([8192 + PAGE, 0], [PAGE + 1, 0])
    assert space.reclaim(used) == (1 + 4 + 2) * PAGE
    assert [space.take(2 * PAGE), space.take(PAGE), space.take(3 * PAGE)] == [
        8192 + 3 * PAGE,
        8192,
        8192 + 10 * PAGE,
    ]


def test_what_was_released_before_is_not_handed_out_twice() -> None:
    space = Space(8192)
    offset = space.take(PAGE)
    space.release(offset, PAGE)
    space.reclaim(UsedSpans())
    for _ in range(2):
        space.commit_started()
        space.commit_finished()
    assert [space.take(PAGE), space.take(PAGE)] == [offset, offset + PAGE]
