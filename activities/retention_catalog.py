"""What the catalog knows of machines and their points, for retention."""

from zoneinfo import ZoneInfo

from activities.binding import implements
from activities.contracts import retention as contract
from activities.contracts.catalog import Recorded
from activities.openers import CatalogOpener
from activities.pulse import Pulse
from holdfast.catalog.points import PointKind
from holdfast.catalog.protected import TriedMachine
from holdfast.clock import Clock
from holdfast.model.ids import RepositoryName
from holdfast.planning.retention import is_given_up


class RetentionCatalogActivities:
    """Serves the part of `activities.contracts.retention` that asks the catalog."""

    def __init__(self, catalog_opener: CatalogOpener, clock: Clock) -> None:
        self._open = catalog_opener
        self._clock = clock

    @implements(contract.settle)
    def settle(self, request: contract.SettlePoints) -> Recorded:
        """Forget points that are gone, and note where others are now."""
        with Pulse(self._clock):
            points = self._open().points
            points.forget(request.repository, request.gone)
            if request.moved is not None:
                self._move(request.repository, request.moved)
        return Recorded()

    def _move(self, repository: RepositoryName, moved: contract.PointMoved) -> None:
        for point in (moved.point_id, *moved.others):
            self._open().points.move(
                repository,
                point,
                file_id=moved.file_id,
                file_name=moved.file,
                generation=moved.generation,
                kind=PointKind(moved.kind),
            )

    @implements(contract.find_machines)
    def find_machines(self, request: contract.FindMachines) -> contract.MachinesFound:
        """Return the machines that a job has points of, and which of them are gone."""
        with Pulse(self._clock):
            protected = self._open().protected
            if request.only_archives:
                known = protected.archived(request.repository)
            else:
                known = protected.machines(request.repository, request.job)
        found = [judged(machine, request) for machine in known]
        return contract.MachinesFound(machines=tuple(one for one in found if one.is_gone or not request.only_gone))


def judged(machine: TriedMachine, request: contract.FindMachines) -> contract.JobMachine:
    """Return a machine with whether it is gone, by the days of the request's time zone."""
    zone = ZoneInfo(request.timezone)
    last_tried = machine.last_tried.astimezone(zone).date()
    return contract.JobMachine(
        machine_id=machine.machine_id,
        machine_name=machine.machine_name,
        last_tried=last_tried,
        is_gone=is_given_up(last_tried, request.now.astimezone(zone).date(), request.gone_after_days),
    )
