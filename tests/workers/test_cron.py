"""Five fields are a time; anything else is refused with what to write."""

import pytest

from holdfast.errors import ConfigurationInvalid
from workers.cron import check_cron, longest_gap_days


@pytest.mark.parametrize("text", [None, "0 22 * * *", "*/5 0-6 1,15 JAN MON-FRI"])
def test_five_fields_or_none_are_fine(text: str | None) -> None:
    check_cron("schedule", text)


@pytest.mark.parametrize("text", ["", "daily", "0 22 * *", "0 22 * * * *", "0 22 * * ;"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="sweep of provider vc is") as caught:
        check_cron("sweep of provider vc", text)
    assert "five fields" in caught.value.hint


@pytest.mark.parametrize(
    "text, days",
    [
        ("0 3 * * *", 1),
        ("0 3 * * 0", 7),
        ("0 3 * * 7", 7),
        ("0 3 * * mon,thu", 4),
        ("0 3 * * MON-FRI", 3),
        ("0 3 1 * *", 31),
        ("0 3 */10 * *", 10),
        ("0 3 5/10 * *", 11),
        ("0 3 1 jan *", 365),
        ("0 3 30 feb *", 31),
        ("0 3 x * *", 31),
    ],
)
def test_the_longest_gap_between_two_runs(text: str, days: int) -> None:
    assert longest_gap_days(text) == days
