"""Whether the clock of a host, by which vSphere says when a snapshot was taken, is far from ours."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

TOLERANCE: Final = timedelta(hours=1)


def clock_notes(created: datetime, before: datetime, after: datetime) -> Iterator[str]:
    """Yield what is to be said of the moment of a snapshot that was taken between two moments of our clock."""
    off = max(before - created, created - after)
    if off > TOLERANCE:
        way = "behind" if created < before else "ahead of"
        yield (
            f"the clock of the machine's host is {off / timedelta(hours=1):.1f} hours {way} that of the proxy: "
            f"the point says that it was made at {created:%Y-%m-%d %H:%M} UTC"
        )
