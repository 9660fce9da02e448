"""The files of a machine in its folder on a datastore: vmx, vmxf and nvram, over the vCenter's file server.

A restored machine gets the captured nvram, which holds the boot entries and variables of its firmware. It never gets
the captured vmx, which says who a machine is and which disks it has: its hardware is made anew from what was captured.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import AccessDenied, DiskNotFound, DiskReadFailed, DiskWriteFailed
from holdfast.model.machine_files import FILE_SIZE_MAX, FileLeftOut, MachineFile, MachineFiles, PlacedFiles
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import Datacenters
from holdfast.providers.vsphere.file_server import DatastoreFile, locate, read_small, write_small
from holdfast.providers.vsphere.properties import Values, extra_of, read
from holdfast.providers.vsphere.tasks import wait

FACTS: Final = ("config.files.vmPathName", "layoutEx.file", "config.extraConfig")
_KINDS: Final = ("config", "extendedConfig", "nvram")
_NVRAM: Final = ".nvram"
_NVRAM_OPTION: Final = "nvram"
_PATIENCE_S: Final = 300.0
_UNREADABLE: Final = (DiskReadFailed, DiskNotFound, AccessDenied)


def captured_files(connection: Connection, datacenters: Datacenters, vm: Any) -> MachineFiles:
    """Return the files of a machine that its file server gives; the others are left out with the reason."""
    paths = list(dict.fromkeys(_paths(read(connection, vm, *FACTS))))
    datacenter = datacenters.path_of(vm)
    files: list[MachineFile] = []
    left_out: list[FileLeftOut] = []
    for path in paths:
        name = path.rpartition("/")[2]
        try:
            _, content = locate(connection, DatastoreFile(datacenter=datacenter, path=path), FILE_SIZE_MAX)
            files.append(MachineFile(name=name, content=content))
        except _UNREADABLE as error:
            left_out.append(FileLeftOut(name=name, reason=error.message))
    return MachineFiles(files=tuple(files), left_out=tuple(left_out))


class NvramPlacer:
    """Puts a captured nvram where a machine that was never on will look for its own."""

    def __init__(self, connection: Connection, datacenters: Datacenters, clock: Clock) -> None:
        self._connection = connection
        self._datacenters = datacenters
        self._clock = clock

    def place(self, vm: Any, files: Sequence[MachineFile]) -> PlacedFiles:
        """Write the nvram among ``files`` for a machine that is off; what fails is left out with the reason."""
        found = next((file for file in files if file.name.lower().endswith(_NVRAM)), None)
        if found is None or not found.content:
            return PlacedFiles()
        try:
            self._write(vm, found)
        except (*_UNREADABLE, DiskWriteFailed) as error:
            return PlacedFiles(left_out=(FileLeftOut(name=found.name, reason=error.message),))
        return PlacedFiles(placed=(found.name,))

    def _write(self, vm: Any, nvram: MachineFile) -> None:
        path, is_stated = _own_nvram(read(self._connection, vm, *FACTS))
        file = DatastoreFile(datacenter=self._datacenters.path_of(vm), path=path)
        write_small(self._connection, file, nvram.content)
        if read_small(self._connection, file, FILE_SIZE_MAX) != nvram.content:
            raise DiskWriteFailed(f"{path} does not read back as written")
        if not is_stated:
            self._state(vm, path.rpartition("/")[2])

    def _state(self, vm: Any, name: str) -> None:
        """Let the configuration of the machine name its nvram."""
        spec = vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key=_NVRAM_OPTION, value=name)])
        what = f"naming the nvram {name!r} of a restored machine"
        wait(
            self._connection,
            self._clock,
            self._connection.call(what, lambda: vm.ReconfigVM_Task(spec)),
            what,
            _PATIENCE_S,
        )


def _paths(values: Values) -> Iterator[str]:
    """Yield the datastore paths of the files that describe a machine, its configuration first."""
    listed = values.get("layoutEx.file") or ()
    if values.get("config.files.vmPathName"):
        yield str(values["config.files.vmPathName"])
    for kind in _KINDS:
        yield from (str(file.name) for file in listed if file.type == kind)


def _own_nvram(values: Values) -> tuple[str, bool]:
    """Return the datastore path of a machine's nvram, and whether its configuration names it."""
    vmx = str(values["config.files.vmPathName"])
    folder = vmx.rpartition("/")[0]
    stated = extra_of(values, _NVRAM_OPTION)
    if stated:
        return stated if stated.startswith("[") else f"{folder}/{stated}", True
    listed = next((str(file.name) for file in values.get("layoutEx.file") or () if file.type == _NVRAM_OPTION), None)
    return listed or f"{vmx.removesuffix('.vmx')}{_NVRAM}", False
