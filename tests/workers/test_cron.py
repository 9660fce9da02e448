"""Five fields are a time; anything else is refused with what to write."""

import pytest

from holdfast.errors import ConfigurationInvalid
from workers.cron import check_cron


@pytest.mark.parametrize("text", [None, "0 22 * * *", "*/5 0-6 1,15 JAN MON-FRI"])
def test_five_fields_or_none_are_fine(text: str | None) -> None:
    check_cron("schedule", text)


@pytest.mark.parametrize("text", ["", "daily", "0 22 * *", "0 22 * * * *", "0 22 * * ;"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="sweep of provider vc is") as caught:
        check_cron("sweep of provider vc", text)
    assert "five fields" in caught.value.hint
