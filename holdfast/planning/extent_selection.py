"""Which extent of a repository receives a new file."""

from collections.abc import Sequence

from holdfast.errors import RepositoryFull, RepositoryUnavailable
from holdfast.model.extents import ExtentChoice, ExtentFacts

RESERVE_BYTES = 256 << 20
"""Kept free on every extent, so that a full repository can still commit and remove."""


def choose_extent(repository: str, extents: Sequence[ExtentFacts], needed_bytes: int) -> ExtentChoice:
    """Return the reachable extent with the most free space; of equals the first.

    ``needed_bytes`` is the least the file is known to need. Raises `RepositoryUnavailable` when no extent can be
    reached and `RepositoryFull` when none has the room and the reserve.
    """
    reachable = [extent for extent in extents if extent.reachable]
    if not reachable:
        problems = "; ".join(f"{extent.name}: {extent.problem}" for extent in extents)
        raise RepositoryUnavailable(f"no extent of repository {repository} can be reached ({problems or 'none'})")
    best = max(reachable, key=lambda extent: extent.free_bytes)
    if best.free_bytes < needed_bytes + RESERVE_BYTES:
        raise RepositoryFull(
            f"repository {repository} needs {needed_bytes + RESERVE_BYTES} bytes, "
            f"extent {best.name} has {best.free_bytes}"
        )
    reason = "only extent" if len(extents) == 1 else f"most free space of {len(reachable)} reachable extents"
    return ExtentChoice(extent=best.name, reason=reason)
