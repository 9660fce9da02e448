"""Where the demonstration's machines live: in a lab vCenter where it can be built, else with the local provider."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from holdfast.clock import Clock
from holdfast.errors import ConfigurationInvalid, HoldfastError, ServerUnavailable, ToolMissing
from holdfast.model.ids import CredentialName, DiskKey, MachineId, ProviderName
from holdfast.model.machine import Disk, Machine, PowerState
from holdfast.pipeline.disks import DiskWriter
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.providers.ports import Provider
from holdfast.providers.raw_disks import FrozenDisk
from workers.credentials import Credentials
from workers.demo.disks import DemoDisk
from workers.demo.place import PROVIDER, DemoPlace
from workers.provider_settings import VSphereProviderSettings
from workers.providers import open_shared
from workers.vcenter_lab import VCenterLab, VCenterSettings, build, control

LOCAL: Final = "local"
VSPHERE: Final = "vsphere"
_PASSWORD: Final = CredentialName("vcenter")
_BLOCK: Final = 1 << 20


class DemoHypervisor(Protocol):
    """What the demonstration needs of a hypervisor besides its provider."""

    @property
    def describes(self) -> str:
        """What it is, in words."""
        ...

    @property
    def table(self) -> str:
        """The provider as a table of the configuration."""
        ...

    def adopt(self, disks: Sequence[DemoDisk]) -> list[DemoDisk]:
        """Make the machines of the disks, and return the disks as the hypervisor has them."""
        ...

    def path(self, machine: str, key: DiskKey) -> Path:
        """Return the file with the bytes of a disk of the machine of this name."""
        ...

    def close(self) -> None:
        """End what runs. Idempotent."""
        ...


class LocalHypervisor:
    """A folder that behaves as a hypervisor."""

    describes = "the local provider: a folder that behaves as a hypervisor"

    def __init__(self, place: DemoPlace, clock: Clock) -> None:
        self._place = place
        self._provider = LocalProvider.create(place.provider, clock)

    @property
    def table(self) -> str:
        """The provider as a table of the configuration."""
        return f'[[providers]]\nname = "{PROVIDER}"\nkind = "local"\npath = {json.dumps(str(self._place.provider))}\n'

    def adopt(self, disks: Sequence[DemoDisk]) -> list[DemoDisk]:
        """Register the machines; their disks are used where they are."""
        for name in dict.fromkeys(disk.machine for disk in disks):
            self._provider.add_machine(name, {disk.key: disk.path for disk in disks if disk.machine == name})
        return list(disks)

    def path(self, machine: str, key: DiskKey) -> Path:
        """Return the file with the bytes of a disk."""
        return self._provider.disk_paths(machine)[key]

    def close(self) -> None:
        """Nothing runs."""


class LabHypervisor:
    """A lab vCenter, to which the product speaks as to any other."""

    describes = "a lab vCenter: govmomi's simulator with disks of real bytes, spoken to by pyVmomi"

    def __init__(self, place: DemoPlace, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._lab = VCenterLab(place.root / "vcenter", VCenterSettings(clusters=0, machines=0), clock=clock)
        self._address = self._lab.start()
        credential = place.home / "credentials" / _PASSWORD
        credential.touch(mode=0o600)
        credential.write_text(self._address.password + "\n", encoding="utf-8")

    @property
    def settings(self) -> VSphereProviderSettings:
        """Return the provider as the configuration has it."""
        parts = urlsplit(self._address.url)
        return VSphereProviderSettings(
            name=ProviderName(PROVIDER),
            host=parts.hostname or "",
            port=parts.port or 443,
            user=self._address.user,
            credential=_PASSWORD,
            thumbprint=self._address.thumbprint_sha256,
            mounts={folder.name: folder for folder in sorted((self._lab.data / "datastores").iterdir())},
            # The lab's datastores are on the disk of this host, however full that is.
            free_space_min_percent=0,
        )

    @property
    def table(self) -> str:
        """The provider as a table of the configuration."""
        settings = self.settings
        mounts = ", ".join(f"{json.dumps(name)} = {json.dumps(str(path))}" for name, path in settings.mounts.items())
        return "\n".join(
            (
                "[[providers]]",
                f'name = "{settings.name}"',
                'kind = "vsphere"',
                f"host = {json.dumps(settings.host)}",
                f"port = {settings.port}",
                f"user = {json.dumps(settings.user)}",
                f'credential = "{settings.credential}"',
                f'thumbprint = "{settings.thumbprint}"',
                f"mounts = {{ {mounts} }}",
                f"free_space_min_percent = {settings.free_space_min_percent}",
                "",
            )
        )

    def adopt(self, disks: Sequence[DemoDisk]) -> list[DemoDisk]:
        """Make the machines through the provider, as a restore would, and move the bytes of the disks there."""
        adopted = []
        provider = open_shared(self.settings, self._clock, Credentials(self._place.home / "credentials"))
        try:
            for name in dict.fromkeys(disk.machine for disk in disks):
                ours = [disk for disk in disks if disk.machine == name]
                keys = _import_machine(provider, name, ours)
                provider.set_power(provider.machine(name).machine_id, PowerState.ON)
                adopted += [_moved(disk, key, self.path(name, key)) for disk, key in zip(ours, keys, strict=True)]
        finally:
            provider.close()
        return adopted

    def path(self, machine: str, key: DiskKey) -> Path:
        """Return the file with the bytes of a disk."""
        found: Any = control(self._address, "GET", f"/disks?machine={quote(machine)}")
        return next(Path(entry["path"]) for entry in found if str(entry["key"]) == key)

    def close(self) -> None:
        """End the vCenter."""
        self._lab.stop()


def lab_problem() -> HoldfastError | None:
    """Build the lab vCenter; return why that is impossible, or None."""
    try:
        build()
    except (ToolMissing, ConfigurationInvalid, ServerUnavailable) as error:
        return error
    return None


def _import_machine(provider: Provider, name: str, disks: Sequence[DemoDisk]) -> list[DiskKey]:
    """Make a machine with the content of disks and return their keys there."""
    wanted = tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in disks)
    machine = Machine(machine_id=MachineId(""), name=name, power=PowerState.OFF, disks=wanted)
    target = provider.prepare_target(f"demo {name}", machine, wanted, None)
    for disk in disks:
        with FrozenDisk(disk.path) as source, provider.open_target(target.target_id, disk.key) as written:
            _copy(source, written)
    made = provider.commit_target(target.target_id)
    return [disk.key for disk in made.disks]


def _copy(source: FrozenDisk, target: DiskWriter) -> None:
    buffer = memoryview(bytearray(_BLOCK))
    for span in source.allocated_spans():
        for offset in range(span.start, span.end, _BLOCK):
            part = buffer[: min(_BLOCK, span.end - offset)]
            source.read_into(offset, part)
            target.write(offset, part)
    target.flush()


def _moved(disk: DemoDisk, key: DiskKey, path: Path) -> DemoDisk:
    """Return a disk as the hypervisor has it; its first file is not needed any more."""
    disk.path.unlink()
    return msgspec.structs.replace(disk, key=key, path=path)
