"""The checks of the conformance suite fail when they should."""

import pytest

from holdfast.errors import DiskNotFound, InputError, MachineNotFound
from holdfast.model.spans import Span
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.provider_bench import (
    assert_covered,
    assert_same,
    assert_sorted,
    raises,
    widened,
)


def test_the_expected_error_is_taken() -> None:
    with raises(InputError):
        raise MachineNotFound("no machine")


def test_no_error_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="MachineNotFound was not raised"), raises(MachineNotFound):
        pass


def test_another_error_is_passed_on() -> None:
    with pytest.raises(DiskNotFound), raises(MachineNotFound):
        raise DiskNotFound("no disk")


@pytest.mark.parametrize(
    "spans",
    [
        [Span(10, 5), Span(0, 5)],
        [Span(0, 5), Span(4, 5)],
        [Span(0, 0)],
        [Span(-1, 5)],
        [Span(96, 5)],
    ],
)
def test_disorder_is_found(spans: list[Span]) -> None:
    with pytest.raises(AssertionError):
        assert_sorted(spans, 100)


def test_order_is_accepted() -> None:
    assert_sorted([], 100)
    assert_sorted([Span(0, 5), Span(5, 5), Span(99, 1)], 100)


def test_gaps_are_found() -> None:
    assert_covered([Span(0, 10)], [Span(0, 5), Span(5, 5)], "all")
    with pytest.raises(AssertionError, match=r"all: 2 bytes are left out, first Span\(start=4, length=2\)"):
        assert_covered([Span(0, 10)], [Span(0, 4), Span(6, 5)], "all")


def test_other_content_is_found() -> None:
    disk = PatternedDisk(1, 1024)
    with pytest.raises(AssertionError, match="disk a: sector 0 should be zeros and is foreign"):
        assert_same(disk, b"x" * 1024, "disk a")


def test_touched_pieces_are_counted_once() -> None:
    assert widened([Span(90, 5), Span(0, 1), Span(5, 10)], 10, 95) == 25
