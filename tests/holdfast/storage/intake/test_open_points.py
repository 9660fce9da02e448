"""A point is open once in a process, from the first who uses it to the last."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from holdfast.errors import ChainBusy
from holdfast.storage.intake.open_points import OpenPoints, PointOpener, SharedPoint

if TYPE_CHECKING:
    from holdfast.storage.chain_files.group_commit import CommitGroup

PATH = Path("/chain/file")


class Opener:
    """Opens something and remembers when."""

    def __init__(self) -> None:
        self.open = 0
        self.opened = 0

    def __call__(self, stack: ExitStack) -> SharedPoint:
        self.open += 1
        self.opened += 1
        stack.callback(self._close)
        return SharedPoint(cast("CommitGroup", object()), None)

    def _close(self) -> None:
        self.open -= 1


def test_it_is_opened_by_the_first_and_closed_behind_the_last() -> None:
    points, opener = OpenPoints(), Opener()
    with points.using(PATH, opener) as first:
        with points.using(PATH, opener) as second:
            assert (first is second, opener.open) == (True, 1)
        assert opener.open == 1
    assert (opener.open, opener.opened) == (0, 1)
    with points.using(PATH, opener) as third:
        assert third is not first
    assert (opener.open, opener.opened) == (0, 2)


def test_points_of_other_files_are_others() -> None:
    points, opener = OpenPoints(), Opener()
    with points.using(PATH, opener) as first, points.using(Path("/chain/other"), opener) as second:
        assert first is not second


def test_one_that_cannot_be_opened_is_tried_anew_by_the_next() -> None:
    points, opener = OpenPoints(), Opener()

    def refuse(stack: ExitStack) -> SharedPoint:
        opener(stack)
        raise ChainBusy("busy")

    with pytest.raises(ChainBusy), points.using(PATH, refuse):
        pass
    assert opener.open == 0
    with points.using(PATH, opener):
        assert opener.open == 1


def test_who_comes_while_it_is_closed_waits_and_opens_it_again() -> None:
    points, opener = OpenPoints(), Opener()
    closing, go_on = threading.Event(), threading.Event()

    def slow(stack: ExitStack) -> SharedPoint:
        point = opener(stack)
        stack.callback(go_on.wait, 20)
        stack.callback(closing.set)
        return point

    seen: list[int] = []

    def use(how: PointOpener) -> None:
        with points.using(PATH, how):
            seen.append(opener.open)

    first = threading.Thread(target=use, args=(slow,))
    first.start()
    assert closing.wait(20)
    second = threading.Thread(target=use, args=(opener,))
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert (seen, opener.open, opener.opened) == ([1, 1], 0, 2)
