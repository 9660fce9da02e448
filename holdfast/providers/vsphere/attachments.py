"""Disks that are attached to proxies: made with a mark that says whose they are, found by it, and taken off again.

A mark is an entry of the proxy's extra configuration, made by the same reconfiguration that attaches the disk and
taken away by the one that detaches it. Nothing is detached that was not attached by us: only independent disks are
looked at, and only those whose files are asked for.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
from pyVmomi import vim

from holdfast.clock import Clock
from holdfast.errors import DiskReadFailed, MachineNotFound
from holdfast.model.ids import MachineId, TargetId
from holdfast.providers.vsphere import staging
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.names import plain_name
from holdfast.providers.vsphere.properties import Values, extra_of, read, walk
from holdfast.providers.vsphere.tasks import wait

FOR_READING: Final = "independent_nonpersistent"
"""Nothing is ever written to the file; it may be attached to several machines."""
FOR_WRITING: Final = "independent_persistent"
"""Everything is written to the file itself, also when somebody takes a snapshot of the proxy meanwhile."""
_OURS: Final = frozenset({FOR_READING, FOR_WRITING})
_MARK: Final = "holdfast.attached."
_PROXIES: Final = "holdfast.proxies"
"""Extra configuration of the machine that holds the disks of a target: to which machines some were attached."""
_DIGITS: Final = 16
_PATIENCE_S: Final = 300.0
_DEVICES: Final = "config.hardware.device"
_UUID: Final = "config.instanceUuid"
_EXTRA: Final = "config.extraConfig"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of an attached disk. Fields are only ever added, with defaults."""

    file: str
    """Datastore path."""
    since: datetime
    tag: str = ""
    """Of the snapshot whose disk it is; empty for a disk of a target."""
    target_id: TargetId = TargetId("")
    """Of the restore target whose disk it is."""
    source: MachineId = MachineId("")
    """The machine of that snapshot; empty for a disk of a target, and from an earlier version."""


_MARK_DECODER: Final = msgspec.json.Decoder(Mark)


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that is attached to a machine, as its mark says."""

    vm: Any
    instance_uuid: str
    machine_name: str
    mark: Mark


class Attacher:
    """Attaches disks to machines of one vCenter and detaches them. The caller sees to one change at a time."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    def attach(self, vm: Any, facts: DiskFacts, mode: str, mark: Mark) -> str:
        """Attach a disk to a machine; return the uuid that its worldwide name is made of.

        Raises `DiskReadFailed` when the machine has no free place.
        """
        slot = next(self._free(vm), None)
        if slot is None:
            raise DiskReadFailed("the proxy has no SCSI controller with a free place for another disk")
        change = staging.attached_disk(slot, facts.size_bytes, facts.file, number=0)
        change.device.backing.diskMode = mode
        self._reconfigure(vm, f"attaching {facts.file} to the proxy", [change], [_option(mark.file, mark)])
        if facts.uuid:
            return facts.uuid
        attached = disks_of(self._values(vm).get(_DEVICES) or ())
        return next((one.uuid for one in attached if one.file == facts.file), "")

    def free_places(self, vm: Any) -> int:
        """Return how many disks can be attached to a machine."""
        return sum(1 for _ in self._free(vm))

    def _free(self, vm: Any) -> Iterator[staging.Slot]:
        devices = self._values(vm).get(_DEVICES) or ()
        taken = {staging.Slot(controller=one.controller, unit=one.unit) for one in disks_of(devices)}
        return staging.free_slots(devices, taken)

    def detach(self, vm: Any, files: Collection[str]) -> None:
        """Take what is attached of these files off a machine, with its marks; nothing happens when nothing is."""
        try:
            values = self._values(vm)
        except MachineNotFound:
            return
        devices = values.get(_DEVICES) or ()
        attached = {facts.key for facts in disks_of(devices) if facts.mode in _OURS and facts.file in files}
        changes = [staging.detached_disk(device) for device in devices if str(device.key) in attached]
        marked = [_option(file, None) for file in files if extra_of(values, _key(file)) is not None]
        if changes or marked:
            self._reconfigure(vm, f"detaching {', '.join(sorted(files))} from the proxy", changes, marked)

    def note_proxy(self, holder: Any, proxy: Any) -> None:
        """Note on the holder of a target's disks that some are about to be attached to a proxy."""
        known = proxies_in(read(self._connection, holder, _EXTRA))
        if proxy._moId not in known:
            text = " ".join((*known, proxy._moId))
            option = vim.option.OptionValue(key=_PROXIES, value=text)
            self._reconfigure(holder, "noting where the disks of a restore are attached", [], [option])

    def release(self, proxies: Iterable[str], files: Collection[str]) -> None:
        """Detach what is attached of these files from machines that `note_proxy` has noted."""
        for proxy in proxies:
            self.detach(self._connection.reference(vim.VirtualMachine, proxy), files)

    def release_elsewhere(self, holder: Any, proxy: Any, files: Collection[str]) -> None:
        """Detach what is attached of a target's files from the proxies noted on its holder, but not from this one."""
        known = proxies_in(read(self._connection, holder, _EXTRA))
        self.release((one for one in known if proxy is None or one != proxy._moId), files)

    def found(self) -> Iterator[Attachment]:
        """Yield every disk that is marked as attached, at any machine."""
        for vm, values in walk(self._connection, vim.VirtualMachine, ("name", _UUID, _EXTRA)):
            uuid = values.get(_UUID) or ""
            for mark in _marks(values):
                yield Attachment(vm=vm, instance_uuid=uuid, machine_name=plain_name(values["name"]), mark=mark)

    def release_marked(self, vm: Any, mark: Mark) -> None:
        """Detach a disk from a machine that still has this very mark of it."""
        with suppress(MachineNotFound):
            if mark in _marks(read(self._connection, vm, _EXTRA)):
                self.detach(vm, {mark.file})

    def marks(self, vm: Any) -> tuple[Mark, ...]:
        """Return what is marked as attached at a machine."""
        return tuple(_marks(read(self._connection, vm, _EXTRA)))

    def _values(self, vm: Any) -> Values:
        return read(self._connection, vm, _DEVICES, _EXTRA)

    def _reconfigure(self, vm: Any, what: str, changes: list[Any], options: list[Any]) -> None:
        spec = vim.vm.ConfigSpec(deviceChange=changes, extraConfig=options)
        task = self._connection.call(what, lambda: vm.ReconfigVM_Task(spec))
        wait(self._connection, self._clock, task, what, _PATIENCE_S)


def proxies_in(values: Values) -> tuple[str, ...]:
    """Return the machines that are noted on a holder of disks."""
    return tuple((extra_of(values, _PROXIES) or "").split())


def _marks(values: Values) -> Iterator[Mark]:
    for option in values.get(_EXTRA) or ():
        if option.key.startswith(_MARK) and option.value:
            with suppress(msgspec.DecodeError):  # not of ours, whatever its name is
                yield _MARK_DECODER.decode(str(option.value))


def _key(file: str) -> str:
    return f"{_MARK}{hashlib.sha256(file.encode()).hexdigest()[:_DIGITS]}"


def _option(file: str, mark: Mark | None) -> Any:
    return vim.option.OptionValue(key=_key(file), value="" if mark is None else msgspec.json.encode(mark).decode())
