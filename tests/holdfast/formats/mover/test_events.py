"""A line keeps as many connections as it is told, and more of them where answers have a long way."""

import pytest

from holdfast.formats.mover.events import LinkOptions
from holdfast.formats.mover.wire import STREAMS_MAX


@pytest.mark.parametrize(
    "count, far", [(1, 1), (2, 3), (5, LinkOptions().streams_far), (10, 16), (63, 100), (100, STREAMS_MAX)]
)
def test_a_long_line_has_more_connections_in_proportion_and_never_too_many(count: int, far: int) -> None:
    options = LinkOptions(give_up_s=3.0).with_streams(count)
    assert (options.streams, options.streams_far, options.give_up_s) == (count, far, 3.0)


def test_one_stays_one_whatever_the_proportion() -> None:
    assert LinkOptions(streams=2, streams_far=90).with_streams(1).streams_far == 1
