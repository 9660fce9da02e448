"""Facts about extents: what is not stated counts as not there."""

import msgspec
import pytest

from holdfast.model.extents import ExtentChoice, ExtentFacts


def test_an_extent_of_which_nothing_is_known_has_no_room() -> None:
    facts = msgspec.json.decode(b'{"name":"a","reachable":false}', type=ExtentFacts)
    assert facts == ExtentFacts(name="a", reachable=False, free_bytes=0, problem="")


def test_a_choice_without_a_reason_is_no_choice() -> None:
    with pytest.raises(msgspec.ValidationError, match="reason"):
        msgspec.json.decode(b'{"extent":"a"}', type=ExtentChoice)
