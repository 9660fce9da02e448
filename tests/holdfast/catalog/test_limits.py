"""How much one call may ask for."""

import pytest

from holdfast.catalog.limits import LIMIT_MAX, check_limit
from holdfast.errors import RequestInvalid


@pytest.mark.parametrize("limit", [1, LIMIT_MAX])
def test_a_limit_in_the_bounds_is_taken(limit: int) -> None:
    assert check_limit(limit) == limit


@pytest.mark.parametrize("limit", [-1, 0, LIMIT_MAX + 1])
def test_a_limit_outside_the_bounds_is_refused(limit: int) -> None:
    with pytest.raises(RequestInvalid, match=str(limit)):
        check_limit(limit)
