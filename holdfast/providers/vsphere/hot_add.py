"""Disks that are attached to the proxy, when it is a machine of the same vCenter.

What is attached for reading is the frozen file itself, independent and nonpersistent, so that nothing is ever written
to it; for writing it is a disk of a restore target, independent and persistent. Each appears as a block device by its
worldwide name. It has to be detached before its snapshot is removed or its target committed, also when the process
that attached it died: whoever attaches, removes or commits first looks for what is still there.
"""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from holdfast.clock import Clock
from holdfast.errors import DiskReadFailed, DiskWriteFailed, HoldfastError
from holdfast.model.ids import MachineId
from holdfast.model.machine import AttachedDisk
from holdfast.model.plan import Transport, TransportMode
from holdfast.providers.raw_disks import FrozenDisk, TargetDisk
from holdfast.providers.vsphere.attachments import FOR_READING, FOR_WRITING, Attacher, Attachment, Mark
from holdfast.providers.vsphere.changes import FrozenDiskInVSphere
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.settings import VSphereSettings
from holdfast.providers.vsphere.target_state import OpenTarget

DEVICES: Final = Path("/dev/disk/by-id")
"""Where the kernel shows disks by their worldwide names."""
APPEARANCE_S: Final = 60.0
"""How long a new disk may take to appear in the proxy's guest."""
DISAPPEARANCE_S: Final = 10.0
"""How long the name of a detached disk may stay in the proxy's guest."""
_POLL_S: Final = 0.05
_SEEN_S: Final = 60.0
_FIRMWARE: Final = Path("/sys/class/dmi/id/product_uuid")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SCANS: Final = Path("/sys/class/scsi_host")


class HotAdd:
    """Attaches disks to the machine that this host is. One change of that machine is made at a time."""

    def __init__(self, settings: VSphereSettings, connection: Connection, clock: Clock) -> None:
        self._settings = settings
        self._connection = connection
        self._clock = clock
        self._attacher = Attacher(connection, clock)
        self._lock = threading.Lock()
        self._proxy: Any = None
        self._why_unknown = ""
        self._is_known = False
        self._looked: tuple[list[Attachment], float] | None = None

    def why_not(self, machine: Any) -> str:
        """Return why disks of a machine cannot be attached to this host; empty when they can."""
        proxy = self._me()
        if proxy is None:
            return self._why_unknown
        if proxy == machine:
            return "the machine is the proxy itself"
        return ""

    def free_places(self) -> int:
        """Return how many disks can be attached to this host at once; `why_not` has said that some can."""
        return self._attacher.free_places(self._proxy)

    def open(self, disk: FrozenDiskInVSphere, transport: Transport) -> FrozenDisk:
        """Attach a frozen disk and open it; it is detached when it is closed. Raises `DiskReadFailed`."""
        facts = disk.facts
        mark = Mark(file=facts.file, since=self._clock.now(), tag=disk.tag, source=disk.machine_id)
        with self._attached(facts, FOR_READING, mark) as device:
            return _AttachedDisk(partial(self._release_marked, mark), facts, device, transport)

    def open_target(self, target: OpenTarget) -> TargetDisk:
        """Attach a disk of a restore target and open it for writing; it is detached when it is closed.

        Raises `DiskReadFailed` when it does not appear, `DiskWriteFailed` when it cannot be opened, or is no file of
        the target: nothing else is ever attached in a way that can be written.
        """
        facts = target.facts
        if facts.file not in target.files:
            raise DiskWriteFailed(f"{facts.file} is no file of target {target.target_id}, so it is not attached")
        mark = Mark(file=facts.file, since=self._clock.now(), target_id=target.target_id)
        self._me()
        self._attacher.note_proxy(target.vm, self._proxy)  # so that a commit finds it, wherever that runs
        with self._attached(facts, FOR_WRITING, mark) as device:
            return _AttachedTarget(partial(self._release_marked, mark), facts, device)

    def release_elsewhere(self, target: OpenTarget) -> None:
        """Detach a disk of a target from other proxies: one that died holds it still, and locks it."""
        self._attacher.release_elsewhere(target.vm, self._me(), {target.facts.file})

    @contextlib.contextmanager
    def _attached(self, facts: DiskFacts, mode: str, mark: Mark) -> Iterator[Path]:
        """Attach a disk and give its device; when the block fails, it is detached again."""
        with self._lock:
            self._attacher.detach(self._proxy, {facts.file})  # of an attempt that died
            shown = self._shown_before(facts)
            uuid = self._attacher.attach(self._proxy, facts, mode, mark)
        try:
            device = DEVICES / _device_name(uuid)
            self._wait_for(device, facts, shown)
            yield device
        except BaseException:
            self._release_marked(mark)
            raise

    def _release_marked(self, mark: Mark) -> None:
        """Detach what was attached with this very mark; a later attempt's disk of the same file stays."""
        with self._lock:
            self._attacher.release_marked(self._proxy, mark)

    def release(self, files: Collection[str]) -> None:
        """Detach what is attached of these files."""
        with self._lock:
            self._attacher.detach(self._proxy, files)

    def release_all(self, disks: Callable[[], Iterable[DiskFacts]]) -> None:
        """Detach what is attached of a snapshot's disks, which are asked for only when this host can attach any."""
        if TransportMode.HOT_ADD in self._settings.transports and self._me() is not None:
            self.release({disk.file for disk in disks()})

    def release_tagged(self, tag: str, *, looks_anew: bool = False) -> int:
        """Detach what is attached under the tag of a snapshot, at whichever machine; return how many disks that were.

        All machines are looked at no more often than once a minute, unless that is asked for. A proxy that cannot be
        changed now holds nobody up: whether its disk is in the way shows when the snapshot is removed.
        """
        if TransportMode.HOT_ADD not in self._settings.transports:
            return 0
        me, released = self._me(), 0
        if me is not None:
            own = {mark.file for mark in self._attacher.marks(me) if mark.tag == tag}
            released = len(own)
            self.release(own)
        for found in self._seen(looks_anew=looks_anew):
            if found.mark.tag == tag and found.vm != me:
                with contextlib.suppress(HoldfastError):
                    self._attacher.detach(found.vm, {found.mark.file})
                    released += 1
        return released

    def _seen(self, *, looks_anew: bool) -> list[Attachment]:
        """Return what is attached at any machine, as it was seen within the last minute."""
        now_s = self._clock.monotonic_s()
        if looks_anew or self._looked is None or now_s - self._looked[1] > _SEEN_S:
            self._looked = list(self._attacher.found()), now_s
        return self._looked[0]

    def attached_disks(self) -> list[AttachedDisk]:
        """Return what is marked as attached at any machine; nothing where disks are never attached."""
        if TransportMode.HOT_ADD not in self._settings.transports:
            return []
        vcenter = self._connection.instance_uuid
        return [
            AttachedDisk(
                machine_id=MachineId(f"{vcenter}:{found.instance_uuid}"),
                machine_name=found.machine_name,
                file=found.mark.file,
                since=found.mark.since,
                tag=found.mark.tag,
                target_id=found.mark.target_id,
                source=found.mark.source,
            )
            for found in self._attacher.found()
        ]

    def detach_from(self, vm: Any, attached: AttachedDisk) -> None:
        """Detach a disk from a machine, unless it was attached anew since it was listed."""
        mark = Mark(
            file=attached.file,
            since=attached.since,
            tag=attached.tag,
            target_id=attached.target_id,
            source=attached.source,
        )
        with self._lock:
            self._attacher.release_marked(vm, mark)

    def _me(self) -> Any:
        """Return the machine that this host is, or None; looked for once."""
        with self._lock:
            if not self._is_known:
                found = self._find((self._settings.proxy_uuid or _firmware_uuid()).lower())
                self._proxy = found[0] if len(found) == 1 else None
                self._why_unknown = _why_unknown(len(found))
                self._is_known = True
            return self._proxy

    def _find(self, uuid: str) -> list[Any]:
        """Return the machines with a BIOS uuid, which a copy may share with its original."""
        search = self._connection.content.searchIndex
        for one in readings(uuid):
            found = self._connection.call(
                "looking for the machine that this host is",
                partial(search.FindAllByUuid, datacenter=None, uuid=one, vmSearch=True, instanceUuid=False),
            )
            if found:
                return list(found)
        return []

    def _shown_before(self, facts: DiskFacts) -> frozenset[str]:
        """Return the names of the disks that the guest's kernel shows, before another one is attached.

        Copies of a disk's files have its worldwide name too, and the kernel gives that name to one of them only. Raises
        `DiskReadFailed` when another disk has it; the name of one that was just detached is waited for to go.
        """
        device = DEVICES / _device_name(facts.uuid)
        pause, deadline_s = threading.Event(), self._clock.monotonic_s() + DISAPPEARANCE_S
        while facts.uuid and _is_shown(device):
            if self._clock.monotonic_s() > deadline_s:
                raise _taken(device, facts)
            pause.wait(_POLL_S)
        return frozenset(one.name for one in DEVICES.glob("wwn-*"))

    def _wait_for(self, device: Path, facts: DiskFacts, shown: frozenset[str]) -> None:
        """Return once the guest's kernel shows the disk. Raises `DiskReadFailed`, also when it was shown before."""
        if device.name in shown:
            raise _taken(device, facts)
        pause, deadline_s = threading.Event(), self._clock.monotonic_s() + APPEARANCE_S
        _rescan()
        while not device.exists():
            if self._clock.monotonic_s() > deadline_s:
                raise DiskReadFailed(
                    f"{facts.file} is attached to the proxy, and {device} did not appear within {APPEARANCE_S:.0f} s",
                    hint="The proxy's machine needs the advanced option `disk.EnableUUID = TRUE`.",
                )
            pause.wait(_POLL_S)


class _AttachedDisk(FrozenDisk):
    """The block device of an attached disk."""

    def __init__(self, release: Callable[[], None], facts: DiskFacts, device: Path, transport: Transport) -> None:
        super().__init__(device, transport)
        self._release = release
        self._is_attached = True
        if self.size_bytes != facts.size_bytes:
            size_bytes = self.size_bytes
            super().close()
            raise DiskReadFailed(f"{device} has {size_bytes} bytes, the disk has {facts.size_bytes}")

    @override
    def close(self) -> None:
        """Release the device and detach the disk. Idempotent."""
        super().close()
        if self._is_attached:
            self._release()
            self._is_attached = False


class _AttachedTarget(TargetDisk):
    """The block device of an attached disk of a target. Nobody else on this host may use it meanwhile."""

    def __init__(self, release: Callable[[], None], facts: DiskFacts, device: Path) -> None:
        super().__init__(device, os.O_EXCL)
        self._release = release
        self._is_attached = True
        if self.size_bytes != facts.size_bytes:
            size_bytes = self.size_bytes
            super().close()
            raise DiskWriteFailed(f"{device} has {size_bytes} bytes, the disk has {facts.size_bytes}")

    @override
    def close(self) -> None:
        """Release the device and detach the disk. Idempotent."""
        super().close()
        if self._is_attached:
            self._release()
            self._is_attached = False


def readings(uuid: str) -> tuple[str, ...]:
    """Return the uuids that a firmware's text may mean: its first three numbers are turned round by some kernels."""
    if not _UUID.fullmatch(uuid):
        return ()
    first, second, third, *rest = uuid.split("-")
    turned = (bytes.fromhex(part)[::-1].hex() for part in (first, second, third))
    return uuid, "-".join((*turned, *rest))


def _firmware_uuid() -> str:
    """Return the BIOS uuid of this host as its firmware tells it; empty when it does not, or only to root."""
    try:
        return _FIRMWARE.read_text("ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        return ""


def _why_unknown(machines: int) -> str:
    """Return why it is not known which machine this host is, by how many machines have its BIOS uuid."""
    if machines > 1:
        return f"{machines} machines of this vCenter have the BIOS uuid of the proxy, so it may be any of them"
    return "the proxy is no machine of this vCenter"


def _device_name(uuid: str) -> str:
    return f"wwn-0x{uuid.replace('-', '').lower()}"


def _is_shown(device: Path) -> bool:
    return device.is_symlink() or device.exists()


def _taken(device: Path, facts: DiskFacts) -> DiskReadFailed:
    return DiskReadFailed(
        f"the proxy has another disk {device} already, so {facts.file} cannot be told from it",
        hint="Copies of a disk's files have its worldwide name; let another proxy read this machine, or give the "
        "proxy's copy a uuid of its own.",
    )


def _rescan() -> None:
    """Ask the kernel to look for new disks; most controllers tell it by themselves, and not everybody may ask."""
    with contextlib.suppress(OSError):
        for scan in _SCANS.glob("host*/scan"):
            scan.write_text("- - -")
