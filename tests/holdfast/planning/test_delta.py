"""Disks that are there are compared where that is wished and possible."""

import pytest

from holdfast.model.ids import DiskKey
from holdfast.model.machine import Disk
from holdfast.planning.delta import Beginning, Delta, decide_beginning, explanation


def a_disk(key: str = "a", size_bytes: int = 512) -> Disk:
    return Disk(key=DiskKey(key), size_bytes=size_bytes)


@pytest.mark.parametrize(
    "wish, beginning",
    [(Delta.AUTO, Beginning.SHARED), (Delta.ALWAYS, Beginning.PRESENT), (Delta.NEVER, Beginning.EMPTY)],
)
def test_disks_that_fit_begin_as_wished(wish: Delta, beginning: Beginning) -> None:
    assert decide_beginning(wish, [a_disk(), a_disk("b")], [a_disk()]) == (beginning, "")


@pytest.mark.parametrize("present", [[], [a_disk(size_bytes=1024)]])
def test_disks_that_do_not_fit_begin_empty_and_only_a_wish_in_vain_is_told(present: list[Disk]) -> None:
    assert decide_beginning(Delta.AUTO, present, [a_disk()]) == (Beginning.EMPTY, "")
    assert decide_beginning(Delta.NEVER, present, [a_disk()]) == (Beginning.EMPTY, "")
    beginning, reason = decide_beginning(Delta.ALWAYS, present, [a_disk()])
    assert beginning is Beginning.EMPTY
    assert "disk a" in reason


@pytest.mark.parametrize(
    "is_resumed, begin", [(False, "delta: 3 GiB"), (True, "what an earlier attempt had written was compared: 3 GiB")]
)
def test_the_words_say_what_was_compared_equal_and_written(begin: str, *, is_resumed: bool) -> None:
    words = explanation("3 GiB", "2 GiB", "1 GiB", is_resumed=is_resumed)
    assert words == f"{begin} compared, 2 GiB equal, 1 GiB written"
