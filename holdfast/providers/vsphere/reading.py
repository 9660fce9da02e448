"""Opening frozen disks over the best way that works."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import msgspec

from holdfast.errors import ChangeTrackingLost, DiskNotFound, DiskReadFailed, HoldfastError
from holdfast.model.placement import DiskWay
from holdfast.model.plan import Transport, TransportMode
from holdfast.model.spans import Span
from holdfast.planning.lost_tracking import told_or_rest
from holdfast.providers.ports import SourceDisk
from holdfast.providers.raw_disks import FrozenDisk
from holdfast.providers.vsphere import descriptors
from holdfast.providers.vsphere.changes import ALLOCATED, FrozenDiskInVSphere, changed_areas
from holdfast.providers.vsphere.datacenters import Datacenters
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.file_server import DatastoreFile, locate
from holdfast.providers.vsphere.folder_disk import FlatFile, FolderDisk
from holdfast.providers.vsphere.hot_add import HotAdd
from holdfast.providers.vsphere.lease_disk import LeaseDisks
from holdfast.providers.vsphere.mounts import flat_path
from holdfast.providers.vsphere.network_disk import NetworkDisks
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.providers.vsphere.transport_rules import Candidates, DiskPlace, candidates

_Opener = Callable[[FrozenDiskInVSphere, Transport], SourceDisk]


class DiskOpener:
    """Opens the disks of snapshots."""

    def __init__(
        self,
        settings: VSphereSettings,
        datacenters: Datacenters,
        network: NetworkDisks,
        hot_add: HotAdd,
        leases: LeaseDisks,
    ) -> None:
        self._settings = settings
        self._network = network
        self._hot_add = hot_add
        self._leases = leases
        self._datacenters = datacenters
        self._openers: Final[dict[TransportMode, _Opener]] = {
            TransportMode.DIRECT: self._open_direct,
            TransportMode.HOT_ADD: self._hot_add.open,
            TransportMode.NETWORK: self._open_network,
            TransportMode.HTTPS: self._open_folder,
            TransportMode.LEASE: self._open_leased,
        }

    def open(self, disk: FrozenDiskInVSphere) -> SourceDisk:
        """Return the disk, opened the best way that works; what failed before is in its transport.

        Raises `DiskReadFailed` with every reason when none works.
        """
        facts = disk.facts
        found = self._candidates(facts, disk.machine)
        failed: list[str] = []
        for way in found.ways:
            try:
                opened = self._openers[way.mode](disk, msgspec.structs.replace(way, failed=tuple(failed)))
            except HoldfastError as error:
                failed.append(f"{way.mode}: {error.message}")
            else:
                opened.place = facts.file
                return opened
        raise DiskReadFailed(
            f"disk {facts.key} ({facts.label}, {facts.file}) cannot be read: {'; '.join((*found.left_out, *failed))}",
            hint="Repair a way, or allow another in `transports` of the provider; see docs/vsphere.md.",
        )

    def best_way(self, facts: DiskFacts, machine: object) -> DiskWay:
        """Return the best way that may work to a disk of a machine, as it would be frozen now."""
        found = self._candidates(facts, machine)
        if not found.ways:
            return DiskWay(disk=facts.key, mode=None, reason="; ".join(found.left_out))
        return DiskWay(disk=facts.key, mode=found.ways[0].mode, reason=found.ways[0].reason)

    def _candidates(self, facts: DiskFacts, machine: object) -> Candidates:
        place = DiskPlace(
            datastore=facts.datastore,
            is_mounted=facts.datastore in self._settings.mounts,
            why_not_attached=self._why_not_attached(machine),
            is_child=facts.is_child,
            is_encrypted=bool(facts.encryption_key),
        )
        return candidates(place, self._settings.transports)

    def _why_not_attached(self, machine: object) -> str:
        if TransportMode.HOT_ADD not in self._settings.transports:
            return "not among `transports`"
        return self._hot_add.why_not(machine)

    def _open_direct(self, disk: FrozenDiskInVSphere, way: Transport) -> SourceDisk:
        return FrozenDisk(flat_path(self._settings.mounts, disk.facts), way)

    def _open_network(self, disk: FrozenDiskInVSphere, way: Transport) -> SourceDisk:
        remarks: list[str] = []
        opened = self._network.open(disk, way, partial(allocated_areas, disk, remarks.append))
        opened.remarks = remarks
        if opened.size_bytes != disk.facts.size_bytes:
            opened.close()
            raise DiskReadFailed(f"nbdkit serves {opened.size_bytes} bytes, the disk has {disk.facts.size_bytes}")
        return opened

    def _open_folder(self, disk: FrozenDiskInVSphere, way: Transport) -> SourceDisk:
        facts, connection = disk.facts, disk.connection
        found, content = self._descriptor(disk)
        name = descriptors.flat_file(content.decode("utf-8", "replace"), facts.size_bytes, facts.file)
        flat = msgspec.structs.replace(found, path=f"{facts.file.rpartition('/')[0]}/{name}")
        remarks: list[str] = []
        allocated = partial(allocated_areas, disk, remarks.append)
        opened = FolderDisk(connection, FlatFile(file=flat, size_bytes=facts.size_bytes), way, allocated)
        opened.remarks = remarks
        return opened

    def _open_leased(self, disk: FrozenDiskInVSphere, way: Transport) -> SourceDisk:
        remarks: list[str] = []
        opened = self._leases.open(disk, way, partial(allocated_areas, disk, remarks.append))
        opened.remarks = remarks
        return opened

    def _descriptor(self, disk: FrozenDiskInVSphere) -> tuple[DatastoreFile, bytes]:
        """Return the descriptor of a disk, looking its datacenter up anew when it is not where it was."""
        path = self._datacenters.path_of(disk.machine)
        wanted = DatastoreFile(datacenter=path, path=disk.facts.file)
        try:
            return locate(disk.connection, wanted, descriptors.SIZE_MAX)
        except DiskNotFound:
            anew = self._datacenters.path_of(disk.machine, not_this=path)
            if anew == path:
                raise
        wanted = msgspec.structs.replace(wanted, datacenter=anew)
        return locate(disk.connection, wanted, descriptors.SIZE_MAX)


def allocated_areas(disk: FrozenDiskInVSphere, remark: Callable[[str], None] | None = None) -> Iterator[Span]:
    """Yield, sorted, what was ever written to the disk, as change tracking knows it; all of it where it does not.

    Where it stops to tell in the middle, everything behind counts as written, and ``remark`` gets a sentence about it.
    """
    whole = Span(0, disk.facts.size_bytes)
    if disk.facts.change_id is None:
        yield whole
        return
    areas = changed_areas(disk, ALLOCATED)
    try:
        first = list(itertools.islice(areas, 1))
    except ChangeTrackingLost:
        # Some datastores do not tell; then everything is read, which is slower and not less.
        yield whole
        return

    def lost(error: ChangeTrackingLost, offset: int) -> None:
        if remark is not None:
            remark(f"everything from offset {offset} on counts as written: {error.message}")

    yield from told_or_rest(itertools.chain(first, areas), whole.length, lost)
