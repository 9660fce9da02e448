"""Opening disks of restore targets over the best way that works."""

from typing import Any

from holdfast.errors import DiskWriteFailed, HoldfastError, RequestInvalid
from holdfast.model.plan import Transport, TransportMode
from holdfast.providers.ports import OpenedTarget
from holdfast.providers.raw_disks import TargetDisk
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.hot_add import HotAdd
from holdfast.providers.vsphere.mounts import flat_path
from holdfast.providers.vsphere.network_disk import NetworkDisks
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.providers.vsphere.target_state import OpenTarget


class DiskWriters:
    """Opens disks for writing. The file server cannot write at an offset, so https is no way here."""

    def __init__(
        self, settings: VSphereSettings, connection: Connection, network: NetworkDisks, hot_add: HotAdd
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._network = network
        self._hot_add = hot_add

    def check_in_place(self) -> None:
        """Raise `RequestInvalid` unless disks can be written while a snapshot keeps what they held."""
        if TransportMode.NETWORK not in self._settings.transports:
            raise RequestInvalid(
                "a disk with a snapshot is written over `network` only: other ways do not know its redo log",
                hint="Allow `network` in `transports` of the provider, or restore without `--quick` or `--delta`.",
            )

    def open_in_place(self, vm: Any, facts: DiskFacts) -> OpenedTarget:
        """Return a disk of a machine that is off and has a snapshot. Raises `RequestInvalid` where that cannot be."""
        self.check_in_place()
        return self._network.open_target(self._connection, vm, facts)

    def open(self, target: OpenTarget) -> OpenedTarget:
        """Return a disk of a machine that is off. Raises `DiskWriteFailed` with every reason when no way works."""
        facts = target.facts
        self._hot_add.release_elsewhere(target)
        left_out: list[str] = []
        failed: list[str] = []
        for mode in self._settings.transports:
            reason = self._why_not(mode, target)
            if reason:
                left_out.append(f"not {mode}: {reason}")
                continue
            try:
                opened = self._open(mode, target)
            except HoldfastError as error:
                failed.append(f"{mode}: {error.message}")
            else:
                why = "; ".join(left_out) or "first in the settings"
                opened.transport = Transport(mode=mode, reason=why, failed=tuple(failed))
                return opened
        reasons = "; ".join((*left_out, *failed)) or "no way is allowed"
        raise DiskWriteFailed(
            f"disk {facts.key} ({facts.file}) cannot be written: {reasons}",
            hint="Restores need `direct`, `hot-add` or `network` in `transports` of the provider.",
        )

    def _why_not(self, mode: TransportMode, target: OpenTarget) -> str:
        if mode is TransportMode.DIRECT and target.facts.datastore not in self._settings.mounts:
            return f"the proxy does not see datastore {target.facts.datastore}"
        if mode is TransportMode.HTTPS:
            return "the file server does not write at an offset"
        if mode is TransportMode.LEASE:
            return "an import takes a disk only as one stream from its front"
        return self._hot_add.why_not(target.vm) if mode is TransportMode.HOT_ADD else ""

    def _open(self, mode: TransportMode, target: OpenTarget) -> OpenedTarget:
        if mode is TransportMode.DIRECT:
            return TargetDisk(flat_path(self._settings.mounts, target.facts))
        if mode is TransportMode.HOT_ADD:
            return self._hot_add.open_target(target)
        return self._network.open_target(self._connection, target.vm, target.facts)
