"""The busiest stage is the bottleneck, and its per cent add up over disks."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.session import Figures
from holdfast.planning.bottleneck import (
    Stage,
    bottleneck,
    bottleneck_words,
    busy_percent,
    line_seconds,
)

SECONDS = st.floats(0, 1e6)


def test_the_busiest_stage_is_the_bottleneck() -> None:
    figures = Figures(duration_s=10, source_s=2, proxy_s=9.34, network_s=1, target_s=3.1, throttled_s=0.5)
    assert bottleneck(figures) is Stage.PROXY
    assert bottleneck_words(figures) == "Proxy (Source 20 %, Proxy 93 %, Network 10 %, Target 31 %, Throttling 5 %)"


def test_network_and_throttling_are_named_only_where_they_took_time() -> None:
    assert bottleneck_words(Figures(duration_s=4, target_s=3)) == "Target (Source 0 %, Proxy 0 %, Target 75 %)"
    assert list(busy_percent(Figures(duration_s=4, network_s=1))) == [*Stage][:4]


@pytest.mark.parametrize("figures", [Figures(), Figures(duration_s=5.0), Figures(source_s=1.0)])
def test_what_an_earlier_version_did_has_no_bottleneck(figures: Figures) -> None:
    assert (busy_percent(figures), bottleneck(figures), bottleneck_words(figures)) == ({}, None, "")


def test_a_limit_explains_what_is_held_up_as_long_as_it_lasts() -> None:
    assert bottleneck(Figures(duration_s=10, network_s=8, target_s=8, throttled_s=8)) is Stage.THROTTLING
    assert bottleneck(Figures(duration_s=10, network_s=8, target_s=8)) is Stage.TARGET
    assert bottleneck(Figures(duration_s=10, source_s=9, throttled_s=8)) is Stage.SOURCE


def test_machines_and_sessions_have_the_mean_over_the_time_of_their_disks() -> None:
    long = Figures(duration_s=90, source_s=81, target_s=9)
    short = Figures(duration_s=10, source_s=0, target_s=10)
    assert bottleneck_words(long + short) == "Source (Source 81 %, Proxy 0 %, Target 19 %)"


def test_a_line_is_blamed_for_no_more_than_what_its_ends_leave() -> None:
    assert line_seconds(9, 10, []) == 9
    assert line_seconds(9, 10, [1, 2]) == 8
    assert line_seconds(9, 10, [0.5]) == 9
    assert line_seconds(9, 10, [11]) == 0


@given(st.lists(SECONDS, min_size=5, max_size=5), st.floats(0.001, 1e6))
def test_no_stage_is_busy_for_more_than_all_of_the_time(seconds: list[float], lasted_s: float) -> None:
    fields = ("source_s", "proxy_s", "network_s", "target_s", "throttled_s")
    figures = msgspec.structs.replace(Figures(duration_s=lasted_s), **dict(zip(fields, seconds, strict=True)))
    percent = busy_percent(figures)
    assert all(0 <= part <= 100 for part in percent.values())
    found = bottleneck(figures)
    assert found is None or percent[found] == max(percent.values())
