"""Opening disks of restore targets over the best way that works."""

from typing import Any

from holdfast.errors import DiskWriteFailed, HoldfastError, RequestInvalid
from holdfast.model.plan import TransportMode
from holdfast.pipeline.disks import DiskWriter
from holdfast.providers.raw_disks import TargetDisk
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.mounts import flat_path
from holdfast.providers.vsphere.network_disk import NetworkDisks
from holdfast.providers.vsphere.settings import VSphereSettings


class DiskWriters:
    """Opens disks for writing. The file server cannot write at an offset, so https is no way here."""

    def __init__(self, settings: VSphereSettings, connection: Connection, network: NetworkDisks) -> None:
        self._settings = settings
        self._connection = connection
        self._network = network

    def check_in_place(self) -> None:
        """Raise `RequestInvalid` unless disks can be written while a snapshot keeps what they held."""
        if TransportMode.NETWORK not in self._settings.transports:
            raise RequestInvalid(
                "a disk with a snapshot is written over `network` only: other ways do not know its redo log",
                hint="Allow `network` in `transports` of the provider, or restore in full, without `--quick`.",
            )

    def open_in_place(self, vm: Any, facts: DiskFacts) -> DiskWriter:
        """Return a disk of a machine that is off and has a snapshot. Raises `RequestInvalid` where that cannot be."""
        self.check_in_place()
        return self._network.open_target(self._connection, vm, facts)

    def open(self, vm: Any, facts: DiskFacts) -> DiskWriter:
        """Return a disk of a machine that is off. Raises `DiskWriteFailed` with every reason when no way works."""
        failed: list[str] = []
        for mode in self._settings.transports:
            try:
                if mode is TransportMode.DIRECT:
                    return TargetDisk(flat_path(self._settings.mounts, facts))
                if mode is TransportMode.NETWORK:
                    return self._network.open_target(self._connection, vm, facts)
            except HoldfastError as error:
                failed.append(f"{mode}: {error.message}")
        raise DiskWriteFailed(
            f"disk {facts.key} ({facts.file}) cannot be written: {'; '.join(failed) or 'no way is allowed'}",
            hint="Restores need `direct` or `network` in `transports` of the provider.",
        )
