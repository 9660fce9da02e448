"""Years of daily sessions lose no point that rules keep, whatever method a job has and wherever it is cut off."""

import pytest

from tests.conftest import YEARS
from tests.fuzz.explorer import tell
from tests.fuzz.year import Year


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(2))
def test_months_of_daily_sessions_lose_no_point_that_rules_keep(seed: int, number: int) -> None:
    year = Year(seed + number)
    year.run(days=45)
    tell(f"{year.rules}: {dict(year.done)}")
    assert year.done["points read"] > 10


@pytest.mark.soak
@pytest.mark.timeout(3600)  # a starved host has been twenty times slower
@pytest.mark.parametrize("number", range(YEARS))
def test_a_year_of_daily_sessions_loses_no_point_that_rules_keep(number: int) -> None:
    """The number is the seed."""
    year = Year(number)
    year.run()
    tell(f"{year.rules}: {dict(year.done)}")
    assert year.done["deaths"] + year.done["power losses"] > 0
