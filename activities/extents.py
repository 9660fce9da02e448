"""Space facts of a repository's extents."""

from activities.binding import implements
from activities.contracts import extents
from activities.openers import RepositoryOpener
from activities.pulse import Pulse
from holdfast.clock import Clock
from holdfast.errors import RepositoryUnavailable
from holdfast.model.extents import ExtentFacts


class ExtentActivities:
    """Serves `activities.contracts.extents`. A repository is one folder, which is its only extent."""

    def __init__(self, repositories: RepositoryOpener, clock: Clock) -> None:
        self._repositories = repositories
        self._clock = clock

    @implements(extents.gather_facts)
    def gather_facts(self, request: extents.GatherExtentFacts) -> extents.ExtentFactsFound:
        """Look whether the folder is there and how much room is left."""
        with Pulse(self._clock):
            try:
                repository = self._repositories(request.repository)
                free_bytes = repository.files.free_bytes(repository.root)
            except RepositoryUnavailable as error:
                facts = ExtentFacts(name=request.repository, reachable=False, problem=error.message)
            else:
                facts = ExtentFacts(name=request.repository, reachable=True, free_bytes=free_bytes)
            return extents.ExtentFactsFound(extents=(facts,))
