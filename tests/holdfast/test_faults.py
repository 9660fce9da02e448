"""Fault points call the hook that a test driver sets, and nothing otherwise."""

from collections.abc import Iterator

import pytest

from holdfast.faults import reach, set_hook


@pytest.fixture(autouse=True)
def no_hook_is_left() -> Iterator[None]:
    yield
    set_hook(None)


def test_the_hook_learns_every_fault_point_in_order() -> None:
    names: list[str] = []
    set_hook(names.append)
    reach("commit.before_sync")
    reach("commit.done")
    assert names == ["commit.before_sync", "commit.done"]


def test_what_the_hook_raises_comes_out_of_the_product_code() -> None:
    def fail(name: str) -> None:
        raise OSError(name)

    set_hook(fail)
    with pytest.raises(OSError, match=r"^commit\.done$"):
        reach("commit.done")


def test_a_removed_hook_is_not_called() -> None:
    names: list[str] = []
    set_hook(names.append)
    set_hook(None)
    reach("commit.done")
    assert names == []
