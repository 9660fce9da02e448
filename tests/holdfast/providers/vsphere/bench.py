"""The vSphere provider on the conformance bench, and the operator's hand on the lab vCenter."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.model.ids import DiskKey, MachineId
from holdfast.model.machine import Machine
from holdfast.model.plan import TransportMode
from holdfast.providers.vsphere.connection import Endpoint
from holdfast.providers.vsphere.names import escaped_name
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.testing.provider_bench import ProviderBench
from tests.lab.vcenter.client import Client, disks
from workers.vcenter_lab import SOURCES, VCenterAddress

PLUGIN = ("python", str(SOURCES / "plugin" / "lab.py"))
GRAIN = 64 * 1024
_NUMBERS = itertools.count(1)
"""Of folders; a folder of a datastore stays when its machine's destruction fails."""


def endpoint_of(address: VCenterAddress) -> Endpoint:
    parts = urlsplit(address.url)
    assert parts.hostname is not None
    return Endpoint(
        host=parts.hostname,
        port=parts.port or 443,
        user=address.user,
        password=lambda: address.password,
        thumbprint=address.thumbprint_sha256,
    )


def settings_of(
    address: VCenterAddress, *modes: TransportMode, mounts: dict[str, Path] | None = None
) -> VSphereSettings:
    return VSphereSettings(
        endpoint=endpoint_of(address),
        transports=modes or tuple(TransportMode),
        mounts=mounts or {},
        nbdkit_plugin=PLUGIN,
        # Disks of tests are on the disk of the host that runs them, however full it is.
        free_space_min_percent=0,
    )


class VSphereBench:
    """Implements `holdfast.testing.provider_bench.ProviderBench` for the vSphere provider."""

    change_grain_bytes = GRAIN

    def __init__(self, client: Client, settings: VSphereSettings, seed: int) -> None:
        self.client = client
        self.settings = settings
        self.seed = seed
        self.provider = VSphereProvider(settings, SystemClock())
        self._opened = [self.provider]

    def close(self) -> None:
        for provider in self._opened:
            provider.close()

    def reconnect(self) -> VSphereProvider:
        provider = VSphereProvider(self.settings, SystemClock())
        self._opened.append(provider)
        return provider

    def clear(self) -> None:
        """Remove every machine."""
        for vm in self.client.all(vim.VirtualMachine):
            if vm.runtime.powerState != "poweredOff":
                self.client.wait(vm.PowerOffVM_Task())
            self.client.wait(vm.Destroy_Task())

    def make_machine(self, name: str, sizes_bytes: Sequence[int]) -> Machine:
        place = f"m{next(_NUMBERS)}"
        files = [f"[{self.store}] {place}/disk-{unit}.vmdk" for unit in range(len(sizes_bytes))]
        changes = [
            _controller(),
            *(_new_disk(unit, size, file) for (unit, size), file in zip(enumerate(sizes_bytes), files, strict=True)),
        ]
        spec = vim.vm.ConfigSpec(
            name=escaped_name(name),
            guestId="otherGuest64",
            numCPUs=1,
            memoryMB=128,
            files=vim.vm.FileInfo(vmPathName=f"[{self.store}] {place}/{place}.vmx"),
            deviceChange=changes,
        )
        made = self.client.wait(self._folder(name).CreateVM_Task(spec, self._pool))
        return self._described(made)

    def write_live(self, machine_id: MachineId, key: DiskKey, offset: int, data: bytes) -> None:
        with self.path(machine_id, key).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def read_live(self, machine_id: MachineId, key: DiskKey) -> bytes:
        return self.path(machine_id, key).read_bytes()

    def grow_disk(self, machine_id: MachineId, key: DiskKey, size_bytes: int) -> None:
        disk = self.device(machine_id, key)
        disk.capacityInBytes, disk.capacityInKB = size_bytes, size_bytes // 1024
        self._change(machine_id, vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk))

    def add_disk(self, machine_id: MachineId, size_bytes: int) -> DiskKey:
        before = {disk.key for disk in disks(self.vm(machine_id).config)}
        change = _new_disk(12, size_bytes)
        change.device.controllerKey = 1000
        self._change(machine_id, change)
        [key] = {disk.key for disk in disks(self.vm(machine_id).config)} - before
        return DiskKey(str(key))

    def remove_disk(self, machine_id: MachineId, key: DiskKey) -> None:
        disk = self.device(machine_id, key)
        self._change(
            machine_id, vim.vm.device.VirtualDeviceSpec(operation="remove", fileOperation="destroy", device=disk)
        )

    def vm(self, machine_id: MachineId) -> Any:
        uuid = machine_id.partition(":")[2]
        return self.client.content.searchIndex.FindByUuid(None, uuid, True, True)

    def device(self, machine_id: MachineId, key: DiskKey) -> Any:
        return next(disk for disk in disks(self.vm(machine_id).config) if str(disk.key) == key)

    def path(self, machine_id: MachineId, key: DiskKey) -> Path:
        entries = self.client.control("GET", f"/disks?machine={quote(self.vm(machine_id)._moId)}")
        return next(Path(entry["path"]) for entry in entries if str(entry["key"]) == key)

    @property
    def store(self) -> str:
        return str(self.client.all(vim.Datastore)[0].name)

    @property
    def _pool(self) -> Any:
        return self.client.all(vim.ResourcePool)[0]

    def _folder(self, name: str) -> Any:
        """Return a folder without a machine of this name: two machines of one name lie in two folders."""
        root = self.client.all(vim.Datacenter)[0].vmFolder
        if self.client.content.searchIndex.FindChild(root, escaped_name(name)) is None:
            return root
        return root.CreateFolder(f"folder {next(_NUMBERS)}")

    def _change(self, machine_id: MachineId, change: Any) -> None:
        self.client.reconfigure(self.vm(machine_id), deviceChange=[change])

    def _described(self, vm: Any) -> Machine:
        uuid = f"{self.client.content.about.instanceUuid}:{vm.config.instanceUuid}"
        return self.provider.machine(uuid)


def as_provider_bench(bench: VSphereBench) -> ProviderBench:
    """Let the type checker compare the bench with the protocol of the suite."""
    return bench


def _controller() -> Any:
    device = vim.vm.device.ParaVirtualSCSIController(key=-100, busNumber=0)
    device.sharedBus = vim.vm.device.VirtualSCSIController.Sharing.noSharing
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=device)


def _new_disk(unit: int, size_bytes: int, file: str = "") -> Any:
    backing = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=file, diskMode="persistent", thinProvisioned=True)
    disk: Any = vim.vm.device.VirtualDisk(key=-1 - unit, controllerKey=-100, unitNumber=unit, backing=backing)
    disk.capacityInBytes, disk.capacityInKB = size_bytes, size_bytes // 1024
    return vim.vm.device.VirtualDeviceSpec(operation="add", fileOperation="create", device=disk)
