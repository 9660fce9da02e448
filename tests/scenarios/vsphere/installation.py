"""The installation of the scenarios: one lab vCenter as several providers, each with ways of its own."""

from pathlib import Path

from holdfast.clock import SystemClock
from holdfast.model.ids import CredentialName, ProviderName, RepositoryName
from holdfast.model.plan import TransportMode
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from tests.holdfast.providers.vsphere.bench import PLUGIN, settings_of
from workers.config import ProxySettings, Settings
from workers.provider_settings import VSphereProviderSettings
from workers.repository_settings import RepositorySettings
from workers.vcenter_lab import VCenterAddress, VCenterLab

VAULT, PROXY = RepositoryName("vault"), "proxy-a"
ANY, DIRECT, NETWORK, HTTPS, LEASE = (ProviderName(name) for name in ("any", "direct", "network", "https", "lease"))
HOT_ADD = ProviderName("hot-add")
PROXY_UUID = "42113b5c-0000-4000-8000-00000000cafe"
"""What the firmware of the proxy says, if a machine of the vCenter is to be the host of the tests."""
LIMITED, STRANGER, SPARED = ProviderName("limited"), ProviderName("stranger"), ProviderName("spared")
"""The same vCenter: every way to read is allowed, or one alone; as an account that may little, or that is refused; with
limits of latency, over one way."""
LIMITED_USER, LIMITED_PASSWORD = "backup@vsphere.local", "little"
_WAYS = {
    **{name: tuple(TransportMode) for name in (ANY, LIMITED, STRANGER)},
    **{ProviderName(mode): (mode,) for mode in TransportMode},
    SPARED: (TransportMode.HTTPS,),
}


def mount_stores(lab: VCenterLab, root: Path) -> dict[str, Path]:
    """Mount the datastores on the proxy, which shares this host with the lab; return where."""
    mounts = {folder.name: root / "mounts" / folder.name for folder in sorted((lab.data / "datastores").iterdir())}
    (root / "mounts").mkdir()
    for name, mount in mounts.items():
        mount.symlink_to(lab.data / "datastores" / name)
    return mounts


def settings_for(address: VCenterAddress, lab: VCenterLab, root: Path) -> Settings:
    """Return the configuration of the installation, and write its passwords."""
    mounts = mount_stores(lab, root)
    settings = Settings(
        home=root / "home",
        providers=tuple(_provider(name, address, mounts) for name in _WAYS),
        repositories=(RepositorySettings(name=VAULT, path=root / "vault"),),
        proxies=(ProxySettings(name=PROXY),),
    )
    settings.credentials.folder.mkdir(parents=True)
    passwords = {ANY: address.password, LIMITED: LIMITED_PASSWORD, STRANGER: "not the password"}
    for name, password in passwords.items():
        secret = settings.credentials.folder / name
        secret.touch(mode=0o600)
        secret.write_text(f"{password}\n")
    Repository.create(root / "vault", HostFiles(), "ab" * 16, SystemClock().now())
    return settings


def _provider(name: ProviderName, address: VCenterAddress, mounts: dict[str, Path]) -> VSphereProviderSettings:
    endpoint = settings_of(address).endpoint
    return VSphereProviderSettings(
        name=name,
        host=endpoint.host,
        port=endpoint.port,
        user=LIMITED_USER if name == LIMITED else endpoint.user,
        credential=CredentialName(name if name in {LIMITED, STRANGER} else ANY),
        thumbprint=endpoint.thumbprint,
        transports=_WAYS[name],
        mounts=mounts,
        nbdkit_plugin=PLUGIN,
        proxy_uuid=PROXY_UUID if name == HOT_ADD else "",
        # The lab's datastores are on the disk of this host, however full that is.
        free_space_min_percent=0,
        latency_start_max_ms=20 if name == SPARED else 0,
        latency_slow_from_ms=30 if name == SPARED else 0,
        latency_sample_s=1,
    )
