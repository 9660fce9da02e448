"""The ``[[providers]]`` tables of the configuration: one struct for each kind of hypervisor, told apart by ``kind``."""

from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from holdfast.errors import ConfigurationInvalid
from holdfast.model.ids import CredentialName, ProviderName
from holdfast.model.plan import TransportMode
from workers.credentials import NAME
from workers.cron import check_cron

KIND: Final = "kind"
KIND_DEFAULT: Final = "local"
_PORT_MAX = 65535
_CONNECTIONS_MAX = 64
_FREE_SPACE_PERCENT_MAX = 90


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


def _check_range(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise ConfigurationInvalid(f"{what} is {number}", hint=f"Give a number from {least} to {most}.")
