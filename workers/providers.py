"""Opens the providers of a configuration by name.

A local provider is cheap and made anew at each use. A vSphere provider keeps a session to its vCenter, so a process
has one for each name, opened at its first use and shared by all threads.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from holdfast.clock import Clock
from holdfast.errors import OperationInterrupted, ToolMissing
from holdfast.model.ids import ProviderName
from holdfast.model.latency import LatencyLimits
from holdfast.planning.latency import LatencyRules
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import Provider
from workers.config import Settings
from workers.credentials import Credentials
from workers.provider_settings import LocalProviderSettings, VSphereProviderSettings

if TYPE_CHECKING:
    from holdfast.providers.vsphere.self_test import Finding
    from holdfast.providers.vsphere.self_test_machine import MachineTest
    from holdfast.providers.vsphere.settings import VSphereSettings

_VENDOR_PACKAGES = ("pyVim", "pyVmomi")


class SharedProvider(Provider, Protocol):
    """A provider that holds something open."""

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


SharedOpener: TypeAlias = Callable[[VSphereProviderSettings, Clock, Credentials], SharedProvider]
"""Opens a provider that is kept. Raises the errors of `holdfast.errors`; it is then tried again at the next use."""


def open_local(settings: LocalProviderSettings, clock: Clock) -> LocalProvider:
    """Return a local provider. Nothing is opened before it is used."""
    return LocalProvider(settings.path, clock, change_tracking=settings.change_tracking)


def open_shared(settings: VSphereProviderSettings, clock: Clock, credentials: Credentials) -> SharedProvider:
    """Return a vSphere provider. Raises `ToolMissing` without the package that speaks to vCenter."""
    # Here and not above: who has no vCenter needs no package that speaks to one.
    with _vendor_package(settings):
        from holdfast.providers.vsphere.provider import VSphereProvider

    return VSphereProvider(vsphere_settings(settings, credentials), clock)


def vsphere_product(settings: VSphereProviderSettings, credentials: Credentials) -> str:
    """Log in and out, and return what the hypervisor calls itself, with its version.

    Raises `ToolMissing` as above, and what speaks against a login.
    """
    with _vendor_package(settings):
        from holdfast.providers.vsphere.connection import Connection

    with Connection(vsphere_settings(settings, credentials).endpoint) as connection:
        return str(connection.content.about.fullName)


def vsphere_self_test(settings: VSphereProviderSettings, credentials: Credentials, clock: Clock) -> "Iterator[Finding]":
    """Yield what a test of a vCenter finds that touches no machine. Raises `ToolMissing` as above."""
    with _vendor_package(settings):
        from holdfast.providers.vsphere.self_test_vcenter import examine

    yield from examine(vsphere_settings(settings, credentials), clock)


def vsphere_machine_test(
    settings: VSphereProviderSettings, credentials: Credentials, clock: Clock, say: Callable[[str], None]
) -> "MachineTest":
    """Return a test on one machine, which takes a snapshot of it. Raises `ToolMissing` as above."""
    with _vendor_package(settings):
        from holdfast.providers.vsphere.self_test_machine import MachineTest

    return MachineTest(vsphere_settings(settings, credentials), clock, say)


@contextmanager
def _vendor_package(settings: VSphereProviderSettings) -> Iterator[None]:
    """Say which extra is missing when an import of the block finds no package that speaks to vCenter."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _VENDOR_PACKAGES:
            raise
        raise ToolMissing(
            f"provider {settings.name} is of kind vsphere, and the package pyvmomi is not installed",
            hint="Install the extra that brings it: `pip install 'holdfast[vsphere]'`.",
        ) from error


def vsphere_settings(settings: VSphereProviderSettings, credentials: Credentials) -> "VSphereSettings":
    """Return what the configuration says, as the provider is told it; the password is read at every login."""
    from holdfast.providers.vsphere.connection import Endpoint
    from holdfast.providers.vsphere.settings import VSphereSettings

    def password() -> str:
        found = credentials.passphrase(settings.credential)
        assert found is not None, settings.credential
        return found

    return VSphereSettings(
        endpoint=Endpoint(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=password,
            thumbprint=settings.thumbprint,
            ca_file=settings.ca_file,
            connections=settings.connections,
        ),
        transports=settings.transports,
        mounts=settings.mounts,
        proxy_uuid=settings.proxy_uuid,
        nbdkit_plugin=settings.nbdkit_plugin,
        vddk_library=settings.vddk_library,
        change_tracking=settings.change_tracking,
        free_space_min_percent=settings.free_space_min_percent,
        snapshots_per_datastore_max=settings.snapshots_per_datastore_max,
        is_foreign_refused=settings.foreign_snapshots == "refuse",
        latency=_latency_rules(settings),
    )


def _latency_rules(settings: VSphereProviderSettings) -> LatencyRules:
    def limits(start_max_ms: int, slow_from_ms: int) -> LatencyLimits:
        return LatencyLimits(
            start_max_ms=start_max_ms,
            slow_from_ms=slow_from_ms,
            sample_s=settings.latency_sample_s,
            removal_wait_s=settings.latency_removal_wait_minutes * 60.0,
            start_pause_s=settings.latency_start_pause_s,
        )

    stores = settings.latency_by_datastore
    return LatencyRules(
        limits=limits(settings.latency_start_max_ms, settings.latency_slow_from_ms),
        by_datastore={name: limits(found.start_max_ms, found.slow_from_ms) for name, found in stores.items()},
    )


class ProviderPool:
    """The providers of a configuration. May be used from several threads; `close` ends what was opened."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        credentials: Credentials,
        *,
        open_shared: SharedOpener = open_shared,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._credentials = credentials
        self._open_shared = open_shared
        shared = (entry for entry in settings.providers if isinstance(entry, VSphereProviderSettings))
        self._places = {entry.name: _Place() for entry in shared}

    def open(self, name: ProviderName) -> Provider:
        """Return the provider of this name.

        Raises `ConfigurationInvalid` for an unknown one, `ToolMissing` when it needs a package that is not installed,
        and what its hypervisor has to say against a login.
        """
        settings = self._settings.provider(name)
        match settings:
            case LocalProviderSettings():
                return open_local(settings, self._clock)
            case VSphereProviderSettings():
                return self._places[name].filled(lambda: self._open_shared(settings, self._clock, self._credentials))

    def close(self) -> None:
        """Close every provider that was opened. Idempotent."""
        with ExitStack() as stack:  # one that fails keeps no other open
            for place in self._places.values():
                stack.callback(place.close)


class _Place:
    """Where one shared provider is kept. A slow vCenter keeps nobody waiting but those who want it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._provider: SharedProvider | None = None
        self._is_closed = False

    def filled(self, opener: Callable[[], SharedProvider]) -> SharedProvider:
        with self._lock:
            if self._is_closed:
                raise OperationInterrupted("the providers of this process are closed")
            if self._provider is None:
                self._provider = opener()
            return self._provider

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._provider is not None:
                self._provider.close()
                self._provider = None
