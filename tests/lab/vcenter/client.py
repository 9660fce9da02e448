"""What the tests say to the lab: pyVmomi for the API, plain HTTP for datastores and the control endpoint."""

import contextlib
import http.client
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pyVmomi
from pyVim import connect
from pyVmomi import SoapAdapter

from workers.vcenter_lab import VCenterAddress, control

# The types of the API are made at run time and have no annotations.
vim: Any = pyVmomi.vim
vmodl: Any = pyVmomi.vmodl
api: Any = connect
SoapStubAdapter: Any = SoapAdapter.SoapStubAdapter

MIB = 1 << 20
TASK_PATIENCE_S = 30.0


class Client:
    """One session of one account."""

    def __init__(self, address: VCenterAddress, user: str | None = None, password: str | None = None) -> None:
        self.address = address
        parts = urlsplit(address.url)
        self.tls = ssl.create_default_context(cafile=address.certificate)
        self.instance = api.SmartConnect(
            host=parts.hostname,
            port=parts.port,
            user=user or address.user,
            pwd=password or address.password,
            sslContext=self.tls,
        )
        self.content: Any = self.instance.content

    def close(self) -> None:
        """Log out, if the session is still known, and close every connection."""
        with contextlib.suppress(vim.fault.NotAuthenticated, http.client.HTTPException, OSError):
            api.Disconnect(self.instance)
        self.instance._stub.DropConnections()

    def all(self, kind: Any) -> list[Any]:
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
        try:
            return sorted(view.view, key=lambda found: str(found.name))
        finally:
            view.Destroy()

    def machine(self, name: str) -> Any:
        [found] = [vm for vm in self.all(vim.VirtualMachine) if vm.name == name]
        return found

    def wait(self, task: Any) -> Any:
        """Return the result of a task; raises its fault."""
        pause = threading.Event()
        for _ in range(int(TASK_PATIENCE_S / 0.01)):
            if task.info.state == "success":
                return task.info.result
            if task.info.state == "error":
                raise task.info.error
            pause.wait(0.01)
        raise AssertionError(f"{task} is still {task.info.state}")

    def snapshot(self, vm: Any, name: str = "s", **options: Any) -> Any:
        wanted = {"description": "", "memory": False, "quiesce": False} | options
        return self.wait(vm.CreateSnapshot_Task(name=name, **wanted))

    def remove(self, snapshot: Any, *, children: bool = False, consolidate: bool = True) -> None:
        self.wait(snapshot.RemoveSnapshot_Task(removeChildren=children, consolidate=consolidate))

    def reconfigure(self, vm: Any, **values: Any) -> None:
        self.wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(**values)))

    def track_changes(self, vm: Any, *, enabled: bool = True) -> None:
        self.reconfigure(vm, changeTrackingEnabled=enabled)

    def control(self, method: str, path: str, body: object = None) -> Any:
        return control(self.address, method, path, body)

    def disk_entry(self, vm: Any, index: int = 0) -> dict[str, Any]:
        """Return what the control endpoint tells of a disk."""
        entry: dict[str, Any] = self.control("GET", f"/disks?machine={quote(vm._moId)}")[index]
        return entry

    def running_bytes(self, vm: Any, index: int = 0) -> Path:
        """Return the file that holds what the guest reads and writes."""
        return Path(self.disk_entry(vm, index)["path"])

    def frozen_bytes(self, vm: Any, snapshot: Any, index: int = 0) -> Path:
        [found] = [f for f in self.disk_entry(vm, index)["frozen"] if f["snapshot"] == snapshot._moId]
        return Path(found["path"])

    def fetch(
        self, file: str, headers: dict[str, str] | None = None, *, is_anonymous: bool = False
    ) -> tuple[int, bytes]:
        """GET a file of a datastore, named as ``[store] folder/name``."""
        store, _, path = file.removeprefix("[").partition("] ")
        parts = urlsplit(self.address.url)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=self.tls, timeout=30)
        cookie = {} if is_anonymous else {"Cookie": self.instance._stub.cookie.split(";")[0]}
        try:
            where = f"/folder/{quote(path)}?dcPath=DC0&dsName={quote(store)}"
            connection.request("GET", where, headers=cookie | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, url: str) -> bytes:
        with urllib.request.urlopen(url, context=self.tls, timeout=30) as answer:  # noqa: S310 # the lab's own https
            data: bytes = answer.read()
            return data


def disks(config: Any) -> list[Any]:
    """Return the disks of a configuration, in the order of their keys."""
    found = [d for d in config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)]
    return sorted(found, key=lambda disk: int(disk.key))


def chain(disk: Any) -> list[str]:
    """Return the file names of a disk, the running one first, without their folder."""
    return [backing.fileName.rpartition("/")[2] for backing in backings(disk.backing)]


def backings(backing: Any) -> Iterator[Any]:
    while backing is not None:
        yield backing
        backing = backing.parent


def areas(vm: Any, snapshot: Any, change_id: str, key: int | None = None) -> list[tuple[int, int]]:
    """Ask for changed areas window by window, to the end of the disk."""
    [disk] = [d for d in disks((snapshot or vm).config) if key in {None, d.key}][:1]
    offset, found = 0, []
    while offset < disk.capacityInBytes:
        info = vm.QueryChangedDiskAreas(snapshot=snapshot, deviceKey=disk.key, startOffset=offset, changeId=change_id)
        assert info.startOffset == offset
        found += [(area.start, area.length) for area in info.changedArea]
        offset += info.length
    return found


def write(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)


def read(file: Path, offset: int, length: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


FileFault = vim.fault.FileFault
InvalidArgument = vmodl.fault.InvalidArgument
