"""Change ids are believed only when they continue one another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.vsphere.tracking_rules import reason_to_distrust

A = "52 de 11 22 33 44 55 66-77 88 99 aa bb cc dd ee"
B = "52 ff 11 22 33 44 55 66-77 88 99 aa bb cc dd ee"


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_counter_only_grows(earlier: int, later: int) -> None:
    assert (reason_to_distrust(f"{A}/{earlier}", f"{A}/{later}") is None) is (earlier <= later)


@pytest.mark.parametrize(
    "since, now, reason",
    [
        (f"{A}/1", None, "not tracked now"),
        (f"{A}/1", "", "not tracked now"),
        (f"{A}/1", f"{B}/2", "began anew"),
        (f"{A}/5", f"{A}/4", "went back from 5 to 4"),
        (A, f"{A}/4", "cannot be compared"),
        (f"{A}/x", f"{A}/4", "cannot be compared"),
        (f"{A}/\u0664", f"{A}/4", "cannot be compared"),
        (f"{A}/1", A, "cannot be compared"),
        ("*", f"{A}/1", "began anew"),
        ("", f"{A}/1", "began anew"),
    ],
)
def test_ids_that_do_not_continue_are_distrusted_with_a_reason(since: str, now: str | None, reason: str) -> None:
    assert reason in str(reason_to_distrust(since, now))


@given(st.text(), st.text() | st.none())
def test_any_text_is_judged(since: str, now: str | None) -> None:
    reason_to_distrust(since, now)
