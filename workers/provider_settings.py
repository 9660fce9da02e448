"""The ``[[providers]]`` tables of the configuration: one struct for each kind of hypervisor, told apart by ``kind``."""

from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from holdfast.errors import ConfigurationInvalid
from holdfast.model.ids import CredentialName, ProviderName
from holdfast.model.plan import TransportMode
from holdfast.planning.latency import REMOVAL_WAIT_MAX_MINUTES, START_PAUSE_MAX_S
from workers.credentials import NAME
from workers.cron import check_cron

KIND: Final = "kind"
KIND_DEFAULT: Final = "local"
_PORT_MAX = 65535
_CONNECTIONS_MAX = 64
_FREE_SPACE_PERCENT_MAX = 90
_LATENCY_SAMPLE_MAX_S = 600
_LATENCY_MAX_MS = 10_000


class LocalProviderSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field=KIND, tag="local"
):
    """One ``[[providers]]`` table of kind ``local``: a folder as a hypervisor, see docs/local.md."""

    name: ProviderName
    """How jobs refer to it."""
    path: Path
    """Folder of the provider."""
    change_tracking: bool = True
    """Keep track of what changes between snapshots; without it every run reads everything."""


class DatastoreLatencySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ``[providers.latency_by_datastore.NAME]`` table: limits of one datastore in place of those of the provider.

    A limit that is left out is none.
    """

    start_max_ms: int = 0
    """As ``latency_start_max_ms``."""
    slow_from_ms: int = 0
    """As ``latency_slow_from_ms``."""


class VSphereProviderSettings(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field=KIND, tag="vsphere"
):
    """One ``[[providers]]`` table of kind ``vsphere``: a vCenter or a single ESXi host."""

    name: ProviderName
    """How jobs refer to it."""
    host: str
    """Name or address of the vCenter or host."""
    port: int = 443
    """Port of its API."""
    user: str
    """Who logs in, such as ``holdfast@vsphere.local``."""
    credential: CredentialName
    """Name of the credential file that holds the password."""
    thumbprint: str | None = None
    """SHA-256 of the server's certificate in hexadecimal digits, with or without colons; nothing else is trusted then.
    Not together with ``ca_file``."""
    ca_file: Path | None = None
    """Certificates, as PEM, that may have signed the server's; without it and ``thumbprint`` those of the host."""
    connections: int = 4
    """Connections to the API that are kept open, 1 to 64."""
    transports: tuple[TransportMode, ...] = tuple(TransportMode)
    """Ways that may be used to read disks; the first that works is taken."""
    mounts: dict[str, Path] = {}
    """Folders under which the proxy sees datastores itself, by the datastore's name; used by ``direct``."""
    proxy_uuid: str = ""
    """BIOS uuid of the machine that the proxy is; empty: as its firmware says; used by ``hot-add``."""
    nbdkit_plugin: tuple[str, ...] = ("vddk",)
    """Plugin of nbdkit that reads disks over the network, with leading words such as a script; used by ``network``."""
    vddk_library: Path | None = None
    """Folder of VMware's disk library, for the plugin ``vddk``; without it where nbdkit looks by itself."""
    change_tracking: bool = True
    """Use what the hypervisor knows of changes; without it every run reads everything."""
    free_space_min_percent: int = 10
    """No snapshot is taken on a datastore with less free space, 0 to 90."""
    snapshots_per_datastore_max: int = 4
    """Our snapshots open at once on one datastore; 0: no limit."""
    foreign_snapshots: Literal["allow", "refuse"] = "allow"
    """Whether machines are protected that have snapshots of somebody else."""
    latency_start_max_ms: int = 0
    """From this latency of a datastore on, in milliseconds, no snapshot is taken or removed there; 20 is a good value,
    0 is no limit. Nothing is done about vSAN and vVol."""
    latency_slow_from_ms: int = 0
    """From this latency on copies that read the datastore are slowed down; 30 is a good value, 0 is no limit. Not below
    ``latency_start_max_ms``."""
    latency_sample_s: int = 20
    """Seconds from one measurement to the next, 1 to 600; hosts measure every 20 s, so less gains nothing."""
    latency_removal_wait_minutes: int = 15
    """How long the removal of a snapshot waits for a datastore above ``latency_start_max_ms`` at most, 0 to 60."""
    latency_start_pause_s: int = 40
    """Seconds from the start of a copy to that of the next one that reads the same datastore while the first runs, 0 to
    600; 0 is no pause. Only for datastores with limits, and at each proxy for itself."""
    latency_by_datastore: dict[str, DatastoreLatencySettings] = {}
    """Datastores with limits of their own, by name."""
    sweep: str | None = None
    """When what dead sessions left is removed, as five cron fields in UTC; without it only when asked to. See
    `holdfast schedule apply`."""


ProviderSettings: TypeAlias = LocalProviderSettings | VSphereProviderSettings

KINDS: Final[dict[str, type[LocalProviderSettings] | type[VSphereProviderSettings]]] = {
    "local": LocalProviderSettings,
    "vsphere": VSphereProviderSettings,
}


def with_kinds(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration ``raw`` with the kind of every provider said; a table that does not is local."""
    entries = raw.get("providers")
    if not isinstance(entries, list):
        return raw
    said = [{KIND: KIND_DEFAULT} | entry if isinstance(entry, dict) else entry for entry in entries]
    return raw | {"providers": said}


def check_vsphere(settings: VSphereProviderSettings) -> None:
    """Raise `ConfigurationInvalid` for what no single type can tell."""
    name = settings.name
    _check_range(f"port of provider {name}", settings.port, 1, _PORT_MAX)
    _check_range(f"connections of provider {name}", settings.connections, 1, _CONNECTIONS_MAX)
    _check_range(
        f"free_space_min_percent of provider {name}", settings.free_space_min_percent, 0, _FREE_SPACE_PERCENT_MAX
    )
    if settings.snapshots_per_datastore_max < 0:
        count = settings.snapshots_per_datastore_max
        raise ConfigurationInvalid(
            f"snapshots_per_datastore_max of provider {name} is {count}", hint="Give a number, or 0 for no limit."
        )
    _check_latency(settings)
    for key in ("host", "user", "nbdkit_plugin", "transports"):
        if not getattr(settings, key):
            raise ConfigurationInvalid(f"{key} of provider {name} is empty")
    if len(set(settings.transports)) < len(settings.transports):
        raise ConfigurationInvalid(f"transports of provider {name} name one way twice")
    if not NAME.fullmatch(settings.credential):
        raise ConfigurationInvalid(f"provider {name}: {settings.credential!r} cannot be the name of a credential")
    check_cron(f"sweep of provider {name}", settings.sweep)
    if settings.thumbprint is not None and settings.ca_file is not None:
        hint = "A pinned certificate needs no CA: leave one of the two keys out."
        raise ConfigurationInvalid(f"provider {name} has both thumbprint and ca_file", hint=hint)


def _check_latency(settings: VSphereProviderSettings) -> None:
    name = settings.name
    _check_range(f"latency_sample_s of provider {name}", settings.latency_sample_s, 1, _LATENCY_SAMPLE_MAX_S)
    _check_range(
        f"latency_removal_wait_minutes of provider {name}",
        settings.latency_removal_wait_minutes,
        0,
        REMOVAL_WAIT_MAX_MINUTES,
    )
    _check_range(f"latency_start_pause_s of provider {name}", settings.latency_start_pause_s, 0, START_PAUSE_MAX_S)
    own = (settings.latency_start_max_ms, settings.latency_slow_from_ms)
    _check_limits(("latency_start_max_ms", "latency_slow_from_ms"), own, f"provider {name}")
    for store, limits in settings.latency_by_datastore.items():
        found = (limits.start_max_ms, limits.slow_from_ms)
        _check_limits(("start_max_ms", "slow_from_ms"), found, f"datastore {store} of provider {name}")


def _check_limits(keys: tuple[str, str], limits: tuple[int, int], whose: str) -> None:
    for key, limit in zip(keys, limits, strict=True):
        _check_range(f"{key} of {whose}", limit, 0, _LATENCY_MAX_MS)
    start_max_ms, slow_from_ms = limits
    if 0 < slow_from_ms < start_max_ms:
        raise ConfigurationInvalid(
            f"{keys[0]} of {whose} is {start_max_ms}, above {keys[1]}, which is {slow_from_ms}",
            hint="What runs is slowed down last: raise the second limit, or lower the first.",
        )


def _check_range(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise ConfigurationInvalid(f"{what} is {number}", hint=f"Give a number from {least} to {most}.")
