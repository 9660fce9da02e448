"""A command that could do half of its work says so beside the error."""

from holdfast.errors import PointNotFound
from workers.cli.failure import CommandFailed


def test_it_carries_error_and_document() -> None:
    failed = CommandFailed(PointNotFound("no point"), {"found": 1}, is_told=True)
    assert (str(failed), failed.error.code, failed.document, failed.is_told) == (
        "no point",
        "point-not-found",
        {"found": 1},
        True,
    )
