"""Space facts of a repository's extents; served by the repository's worker."""

import msgspec
from temporalio import activity

from holdfast.model.extents import ExtentFacts
from holdfast.model.ids import RepositoryName


class GatherExtentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The repository whose extents are meant."""

    repository: RepositoryName


class ExtentFactsFound(msgspec.Struct, frozen=True, kw_only=True):
    """One entry for each extent, in the order of the configuration."""

    extents: tuple[ExtentFacts, ...]


@activity.defn(name="extents.gather_facts")
def gather_facts(request: GatherExtentFacts) -> ExtentFactsFound:
    """Look at every extent: is it there, and how much room is left."""
    raise AssertionError(request)
