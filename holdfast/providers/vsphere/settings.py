"""How a vSphere provider is set up."""

from pathlib import Path

import msgspec

from holdfast.model.plan import TransportMode
from holdfast.providers.vsphere.connection import Endpoint


class VSphereSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says about one vCenter."""

    endpoint: Endpoint
    transports: tuple[TransportMode, ...] = tuple(TransportMode)
    mounts: dict[str, Path] = {}
    nbdkit_plugin: tuple[str, ...] = ("vddk",)
    vddk_library: Path | None = None
    change_tracking: bool = True
    free_space_min_percent: int = 10
    snapshots_per_datastore_max: int = 4
    is_foreign_refused: bool = False
