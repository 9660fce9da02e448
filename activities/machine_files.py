"""The small files of machines: from the hypervisor into a point, and from a point to a restored machine.

A point is written to as by a transfer: under the chain's lock, fenced at the commit, safe to run twice.
"""

from activities.binding import implements
from activities.contracts import machine_files
from activities.contracts.machine_files import CopyMachineFiles, KeptFile, MachineFilesCopied, PlaceMachineFiles
from activities.openers import PassphraseLookup, ProviderOpener, RepositoryOpener, open_point_file
from activities.pulse import Pulse
from holdfast.clock import Clock
from holdfast.model.machine_files import PlacedFiles, within_limits
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.point_files import put_files, read_files


class MachineFileActivities:
    """Serves `activities.contracts.machine_files`."""

    def __init__(
        self,
        providers: ProviderOpener,
        repositories: RepositoryOpener,
        passphrases: PassphraseLookup,
        clock: Clock,
    ) -> None:
        self._providers = providers
        self._repositories = repositories
        self._passphrases = passphrases
        self._clock = clock

    @implements(machine_files.copy_machine_files)
    def copy_machine_files(self, request: CopyMachineFiles) -> MachineFilesCopied:
        """Keep the files of a machine in a point that is being written."""
        with Pulse(self._clock):
            found = self._providers(request.provider).machine_files(request.machine_id, request.snapshot_id)
            found = within_limits(found)
            repository, path = open_point_file(self._repositories, request.repository, request.point)
            passphrase = self._passphrases(request.credential)
            with ChainWriter.resume(repository.files, path, passphrase) as writer:
                put_files(writer, request.point.number, found.files)
            return MachineFilesCopied(
                kept=tuple(KeptFile(name=file.name, size_bytes=len(file.content)) for file in found.files),
                left_out=found.left_out,
            )

    @implements(machine_files.place_machine_files)
    def place_machine_files(self, request: PlaceMachineFiles) -> PlacedFiles:
        """Give a prepared target the files of a point that are of use to it; damaged ones are left out."""
        with Pulse(self._clock):
            repository = self._repositories(request.repository)
            with repository.open_chain(request.chain, self._passphrases(request.credential)) as chain:
                found = read_files(chain, request.number)
            done = self._providers(request.provider).place_machine_files(request.target_id, found.files)
            return PlacedFiles(placed=done.placed, left_out=(*found.left_out, *done.left_out))
