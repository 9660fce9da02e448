"""What a guest does not need becomes zeros, piece by piece, and everything else is read as planned."""

from itertools import product

import pytest

from holdfast.model.plan import Action, PlanStep
from holdfast.model.spans import Span, align_inward
from holdfast.planning.guest_exclusion import (
    REMEMBERED_MAX,
    Unneeded,
    explanation,
    remembered_spans,
    without_unneeded,
)

PIECE = 2


def spans_of(bits: tuple[bool, ...]) -> list[Span]:
    return [Span(at, 1) for at, bit in enumerate(bits) if bit]


@pytest.mark.parametrize("size", [8, 7])
def test_every_small_disk_is_read_but_for_pieces_that_nobody_needs(size: int) -> None:
    pieces = -(-size // PIECE)
    for kinds in product((None, Action.READ, Action.ZERO), repeat=pieces):
        steps = [
            PlanStep(Span(at * PIECE, min(PIECE, size - at * PIECE)), kind) for at, kind in enumerate(kinds) if kind
        ]
        for bits in product((False, True), repeat=size):
            found = list(without_unneeded(steps, spans_of(bits), size, PIECE))
            told = {byte: (step.action, turned) for step, turned in found for byte in _bytes(step.span)}
            assert sum(step.span.length for step, _ in found) == len(told), "no byte is told of twice"
            for at, kind in enumerate(kinds):
                piece = range(at * PIECE, min(size, (at + 1) * PIECE))
                turned = kind is Action.READ and all(bits[byte] for byte in piece)
                expected = None if kind is None else (Action.ZERO if turned else kind, turned)
                assert {told.get(byte) for byte in piece} == {expected}


def _bytes(span: Span) -> range:
    return range(span.start, span.end)


def test_long_steps_and_long_holes_are_cut_where_they_cross() -> None:
    steps = [PlanStep(Span(0, 10), Action.READ), PlanStep(Span(20, 10), Action.READ)]
    found = list(without_unneeded(steps, [Span(1, 3), Span(6, 17), Span(28, 2)], 100, PIECE))
    assert [(step.span, turned) for step, turned in found] == [
        (Span(0, 2), False),
        (Span(2, 2), True),
        (Span(4, 2), False),
        (Span(6, 4), True),
        (Span(20, 2), True),
        (Span(22, 6), False),
        (Span(28, 2), True),
    ]


def test_the_longest_spans_are_remembered_in_order() -> None:
    spans = [Span(at * 100, 2 + 2 * (at % 40)) for at in range(2 * REMEMBERED_MAX)]
    found = remembered_spans(spans, 10**9, PIECE)
    assert len(found) == REMEMBERED_MAX
    assert list(found) == sorted(found, key=lambda span: span.start)
    assert min(span.length for span in found) >= 40
    assert remembered_spans([Span(1, 6)], 100, PIECE) == tuple(align_inward([Span(1, 6)], PIECE, 100))


def test_what_was_left_out_is_told_in_words() -> None:
    assert explanation({}, []) == ""
    assert explanation({Unneeded.DELETED: 7, Unneeded.SWAP: 5}, []) == "left out 5 bytes of swap and 7 bytes of deleted"
    kept = [(f"partition {number}", "it is mounted") for number in range(6)]
    told = explanation({Unneeded.SWAP: 5}, kept).split("; ")
    assert told[:2] == ["left out 5 bytes of swap", "partition 0: it is mounted"]
    assert (len(told), told[-1]) == (6, "and 2 more volumes")


def test_masks_that_mean_nothing_are_told() -> None:
    assert explanation({}, [], ["/a", "*.b"]) == "nothing is meant by /a, *.b"
    many = explanation({Unneeded.FILES: 5}, [], [f"/{number}" for number in range(11)])
    assert many.startswith("left out 5 bytes of excluded files; nothing is meant by /0, /1,")
    assert many.endswith("/7 and 3 more")
