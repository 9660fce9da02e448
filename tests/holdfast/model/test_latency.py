"""Limits of latency: one is enough to have any."""

import pytest

from holdfast.model.latency import LatencyLimits


@pytest.mark.parametrize("start_max_ms, slow_from_ms, is_off", [(0, 0, True), (20, 0, False), (0, 30, False)])
def test_without_either_limit_there_is_none(start_max_ms: int, slow_from_ms: int, *, is_off: bool) -> None:
    assert LatencyLimits(start_max_ms=start_max_ms, slow_from_ms=slow_from_ms).is_off is is_off
