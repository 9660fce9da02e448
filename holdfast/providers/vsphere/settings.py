"""What a vSphere provider is told: where it speaks to, which ways it may read, and what it has to spare."""

from pathlib import Path

import msgspec

from holdfast.model.plan import TransportMode
from holdfast.planning.latency import LatencyRules
from holdfast.providers.vsphere.connection import Endpoint


class VSphereSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one provider. docs/reference/configuration.md lists the same as keys of the configuration."""

    endpoint: Endpoint
    """The vCenter or host, and who logs in."""
    transports: tuple[TransportMode, ...] = tuple(TransportMode)
    """Ways that may be used to read disks; the first that works is taken."""
    mounts: dict[str, Path] = {}
    """Folders under which this host sees datastores itself, by the datastore's name."""
    proxy_uuid: str = ""
    """BIOS uuid of the machine that this host is, for hot-add; empty: as the host's firmware says."""
    nbdkit_plugin: tuple[str, ...] = ("vddk",)
    """Plugin of nbdkit that reads disks over the network, with leading words such as a script."""
    vddk_library: Path | None = None
    """Folder of VMware's disk library, for the plugin ``vddk``; None: where nbdkit looks by itself."""
    change_tracking: bool = True
    """Use what the hypervisor knows of changes; without it every run reads everything."""
    free_space_min_percent: int = 10
    """No snapshot is taken on a datastore with less free space."""
    snapshots_per_datastore_max: int = 4
    """Our snapshots open at once on one datastore; 0: no limit."""
    is_foreign_refused: bool = False
    """Refuse machines that have snapshots of somebody else."""
    latency: LatencyRules = LatencyRules()
    """What is done about slow datastores; without limits nothing, and nobody is asked."""
