"""Patience with what a hypervisor does in its own time."""

from holdfast.planning.patience import FOLDING, FOLDING_BY_OTHERS


def test_an_attempt_at_a_snapshot_gives_way_before_the_folding_of_others_may_end() -> None:
    # The next attempt waits on, so that the step hears of a cancellation and shows that it is alive in between.
    assert FOLDING_BY_OTHERS < FOLDING
