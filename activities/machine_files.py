"""The small files of machines: from the hypervisor into a point, and from a point to a restored machine.

A point is written to as by a transfer: under the chain's lock, fenced at the commit, safe to run twice.
"""

from activities.binding import implements
from activities.contracts import machine_files
from activities.contracts.machine_files import CopyMachineFiles, KeptFile, MachineFilesCopied, PlaceMachineFiles
from activities.openers import ProviderOpener
from activities.point_disks import PointDisks
from activities.pulse import Pulse
from holdfast.clock import Clock
from holdfast.model.machine_files import PlacedFiles, within_limits


class MachineFileActivities:
    """Serves `activities.contracts.machine_files`."""

    def __init__(self, providers: ProviderOpener, points: PointDisks, clock: Clock) -> None:
        self._providers = providers
        self._points = points
        self._clock = clock

    @implements(machine_files.copy_machine_files)
    def copy_machine_files(self, request: CopyMachineFiles) -> MachineFilesCopied:
        """Keep the files of a machine in a point that is being written."""
        with Pulse(self._clock):
            found = self._providers(request.provider).machine_files(request.machine_id, request.snapshot_id)
            found = within_limits(found)
            self._points.put_files(request, found)
            return MachineFilesCopied(
                kept=tuple(KeptFile(name=file.name, size_bytes=len(file.content)) for file in found.files),
                left_out=found.left_out,
            )

    @implements(machine_files.place_machine_files)
    def place_machine_files(self, request: PlaceMachineFiles) -> PlacedFiles:
        """Give a prepared target the files of a point that are of use to it; damaged ones are left out."""
        with Pulse(self._clock):
            found = self._points.read_files(request)
            done = self._providers(request.provider).place_machine_files(request.target_id, found.files)
            return PlacedFiles(placed=done.placed, left_out=(*found.left_out, *done.left_out))
