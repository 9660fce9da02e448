"""How much one call may ask the catalog for."""

from holdfast.errors import RequestInvalid

LIMIT_DEFAULT = 100
LIMIT_MAX = 10_000


def check_limit(limit: int) -> int:
    """Return ``limit`` if a list may have so many rows, else raise `RequestInvalid`."""
    if not 1 <= limit <= LIMIT_MAX:
        raise RequestInvalid(f"limit {limit} is not between 1 and {LIMIT_MAX}")
    return limit
