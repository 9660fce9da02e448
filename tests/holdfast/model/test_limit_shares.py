"""Parts of limits, as they are told."""

import msgspec

from holdfast.model.limit_shares import LimitsState, Member, Report, Share, Want
from tests.holdfast.planning.test_limit_shares import NOON


def test_a_part_of_a_limit_that_was_lowered_is_smaller_and_of_one_that_was_raised_the_same() -> None:
    share = Share(rate_bytes_s=4.0, limit_bytes_s=8.0)
    assert [share.of(limit) for limit in (8.0, 4.0, 16.0)] == [4.0, 2.0, 4.0]


def test_everything_that_is_told_comes_back_as_it_was() -> None:
    want = Want(limits=("rule", "write"), count=2, demand_bytes_s=64.0)
    report = Report(process="a", label="proxy a", sequence=3, limits={"rule": 8.0, "write": 9.0}, wants=(want,))
    state = LimitsState(members=(Member(report=report, heard=NOON, holds={"rule": 4.0}),))
    assert msgspec.json.decode(msgspec.json.encode(state), type=LimitsState) == state
