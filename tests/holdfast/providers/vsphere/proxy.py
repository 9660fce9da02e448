"""A machine of the lab that plays the host of the tests, and what is restored at it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from holdfast.model.machine import Disk, Machine, PowerState
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.testing.provider_bench import MIB, Subject
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import Client, disks

BORROWED = ("independent_nonpersistent", "independent_persistent")
MARK = "holdfast.attached."


class Proxy:
    """A machine of the lab that plays the host of the tests, with a kernel that shows attached disks."""

    def __init__(self, bench: VSphereBench, devices: Path) -> None:
        self.bench = bench
        self.devices = devices
        self.machine: Machine = bench.make_machine("proxy", [MIB])
        bench.provider.set_power(self.machine.machine_id, PowerState.ON)
        self.vm: Any = bench.vm(self.machine.machine_id)

    @property
    def settings(self) -> VSphereSettings:
        return msgspec.structs.replace(
            self.bench.settings,
            transports=(TransportMode.HOT_ADD,),
            proxy_uuid=self.vm.config.uuid,
        )

    def attached(self) -> list[Any]:
        return [disk for disk in disks(self.vm.config) if disk.backing.diskMode in BORROWED]

    def marks(self) -> list[str]:
        return [str(option.value) for option in self.vm.config.extraConfig if option.key.startswith(MARK)]

    @contextmanager
    def kernel(self, client: Client) -> Iterator[None]:
        """Show each attached disk by its worldwide name, as the kernel of a guest does."""
        stopped = threading.Event()

        def show() -> None:
            while not stopped.wait(0.01):
                entries = client.control("GET", f"/disks?machine={quote(self.vm._moId)}")
                paths = {entry["key"]: Path(entry["path"]) for entry in entries}
                shown = {self.name(disk): paths[disk.key] for disk in self.attached() if disk.key in paths}
                for link in self.devices.iterdir():
                    if link.name not in shown:
                        link.unlink()
                for name, path in shown.items():
                    if not (self.devices / name).is_symlink():
                        (self.devices / name).symlink_to(path)

        thread = threading.Thread(target=show)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def name(self, disk: Any) -> str:
        return f"wwn-0x{disk.backing.uuid.replace('-', '').lower()}"


class Restore:
    """A restore target that replaces the disks of a machine, and the machine."""

    def __init__(self, bench: VSphereBench, provider: VSphereProvider, name: str = "one") -> None:
        self.bench = bench
        self.provider = provider
        self.subject = Subject(bench, f"web {name}", 4 * MIB, 2 * MIB)
        self.keys = self.subject.keys
        disks = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in self.subject.machine.disks]
        self.target_id = provider.prepare_target(name, self.subject.machine, disks, self.subject.machine_id).target_id

    def content(self, number: int = 0) -> bytes:
        return self.bench.read_live(self.subject.machine_id, self.keys[number])


def frozen(bench: VSphereBench) -> Subject:
    subject = Subject(bench, "web", 4 * MIB, 2 * MIB)
    subject.write(Span(MIB, MIB))
    return subject
