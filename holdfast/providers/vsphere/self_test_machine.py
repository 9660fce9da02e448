"""The self-test on one machine that a person names: a snapshot is taken, read over every way, and removed."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, SnapshotFailed
from holdfast.model.ids import SnapshotId
from holdfast.model.machine import Machine, Snapshot, SnapshotDisk
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.ports import SourceDisk
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.providers.vsphere.self_test import (
    SAMPLE_MAX,
    Finding,
    Reading,
    counted,
    failed,
    judge_readings,
    ok,
    sample_of,
    summary_of,
    warning,
)
from holdfast.providers.vsphere.settings import VSphereSettings

_CHUNK: Final = 1 << 20
_MIB: Final = 1 << 20
_OUTSIDE: Final = "Run a proxy in a machine of this vCenter, or leave hot-add out of `transports` of the provider."


class MachineTest:
    """One test on one machine. ``say`` hears what is being done."""

    def __init__(self, settings: VSphereSettings, clock: Clock, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._clock = clock
        self._say = say
        self._found: list[Finding] = []
        self._before: set[SnapshotId] = set()
        self._ways = settings.transports

    def run(self, reference: str, tag: str) -> list[Finding]:
        """Take a snapshot with a tag of its own, read its disks, and remove it whatever happens."""
        with VSphereProvider(self._settings, self._clock) as provider:
            try:
                machine = provider.machine(reference)
                self._before = {one.snapshot_id for one in provider.snapshots(machine.machine_id)}
            except HoldfastError as error:
                return [failed("machine", error)]
            self._found = [
                ok("machine", f"{machine.name}, {counted(len(machine.disks), 'disk')}, power {machine.power}")
            ]
            try:
                self._try(provider, machine, tag)
            finally:
                self._clean(provider, machine, tag)
        return self._found

    def _try(self, provider: VSphereProvider, machine: Machine, tag: str) -> None:
        self._say(f"taking a snapshot of machine {machine.name}")
        began_s = self._clock.monotonic_s()
        try:
            snapshot = provider.create_snapshot(machine.machine_id, tag)
        except HoldfastError as error:
            self._found.append(failed("snapshot", error))
            return
        took_s = self._clock.monotonic_s() - began_s
        self._found += _about_snapshot(snapshot, took_s)
        self._leave_out_hot_add(provider, machine)
        readings: list[Reading] = []
        for disk in snapshot.disks:
            self._found.append(_about_changes(provider, snapshot, disk))
            of_disk = self._readings(provider, snapshot, disk)
            self._found += judge_readings(of_disk)
            readings += of_disk
        self._found += summary_of(readings)

    def _leave_out_hot_add(self, provider: VSphereProvider, machine: Machine) -> None:
        """Say once, and not of every disk, that this host can attach none of them; the other ways are tried."""
        if TransportMode.HOT_ADD not in self._ways or len(self._ways) == 1:
            return
        try:
            reason = provider.why_not_attached(machine.machine_id)
        except HoldfastError as error:
            reason = error.message
        if reason:
            self._ways = tuple(mode for mode in self._ways if mode is not TransportMode.HOT_ADD)
            self._found.append(warning("hot-add", f"disks are not attached: {reason}", _OUTSIDE))

    def _readings(self, provider: VSphereProvider, snapshot: Snapshot, disk: SnapshotDisk) -> list[Reading]:
        self._say(f"reading up to {SAMPLE_MAX // _MIB} MiB of disk {disk.key} over each way")
        spans = _sample(provider, snapshot, disk)
        return [self._read(mode, snapshot, disk, spans) for mode in self._ways]

    def _read(self, mode: TransportMode, snapshot: Snapshot, disk: SnapshotDisk, spans: tuple[Span, ...]) -> Reading:
        only = msgspec.structs.replace(self._settings, transports=(mode,))
        try:
            with (
                VSphereProvider(only, self._clock) as provider,
                provider.open_disk(snapshot.machine_id, snapshot.snapshot_id, disk.key) as opened,
            ):
                return self._measured(opened, Reading(disk=disk.key, mode=mode), spans)
        except HoldfastError as error:
            return Reading(disk=disk.key, mode=mode, problem=error.message)

    def _measured(self, opened: SourceDisk, reading: Reading, spans: tuple[Span, ...]) -> Reading:
        digest = hashlib.sha256()
        buffer = bytearray(_CHUNK)
        read_bytes, duration_s = 0, 0.0
        for piece in _pieces(spans):
            view = memoryview(buffer)[: piece.length]
            began_s = self._clock.monotonic_s()
            opened.read_into(piece.start, view)
            duration_s += self._clock.monotonic_s() - began_s
            digest.update(view)
            read_bytes += piece.length
        return msgspec.structs.replace(reading, read_bytes=read_bytes, duration_s=duration_s, digest=digest.hexdigest())

    def _clean(self, provider: VSphereProvider, machine: Machine, tag: str) -> None:
        """Remove the snapshot, also one whose creation was never confirmed, and look whether anything is left."""
        self._say("removing the snapshot")
        began_s = self._clock.monotonic_s()
        try:
            # Removing what is not there waits for a creation that is under way.
            provider.remove_snapshot(machine.machine_id, SnapshotId(""))
            for snapshot in provider.snapshots(machine.machine_id):
                if self._is_of_this_test(snapshot, tag):
                    provider.remove_snapshot(machine.machine_id, snapshot.snapshot_id)
            left = provider.snapshots(machine.machine_id)
        except HoldfastError as error:
            self._found.append(failed("removal", error))
            return
        took_s = self._clock.monotonic_s() - began_s
        if any(self._is_of_this_test(snapshot, tag) for snapshot in left):
            still = SnapshotFailed(f"the snapshot {tag} is still there", hint="Remove it in the vSphere Client.")
            self._found.append(failed("removal", still))
            return
        self._found.append(ok("removal", f"the snapshot is gone after {took_s:.1f} s, nothing of it is left"))
        if left:
            tags = ", ".join(snapshot.tag or "without a tag" for snapshot in left)
            hint = "A session may run; `holdfast provider sweep` removes what dead ones left."
            self._found.append(warning("other snapshots", f"the machine has others of Holdfast: {tags}", hint))

    def _is_of_this_test(self, snapshot: Snapshot, tag: str) -> bool:
        """Tell ours by the tag; the one that switches change tracking on has none."""
        return snapshot.tag == tag or (not snapshot.tag and snapshot.snapshot_id not in self._before)


def _about_snapshot(snapshot: Snapshot, took_s: float) -> Iterator[Finding]:
    yield ok("snapshot", f"taken in {took_s:.1f} s, {counted(len(snapshot.disks), 'disk')}")
    for note in snapshot.notes:
        yield warning("snapshot", note, "Backups of this machine will say the same.")
    for skipped in snapshot.machine.skipped:
        hint = "Make the disk dependent, or protect it from inside the guest."
        yield warning("snapshot", f"disk {skipped.label} is left out: {skipped.reason}", hint)


def _about_changes(provider: VSphereProvider, snapshot: Snapshot, disk: SnapshotDisk) -> Finding:
    """Ask what changed since the snapshot itself, which a vCenter whose tracking works can tell."""
    check = f"disk {disk.key} change tracking"
    hint = "Every backup reads the whole disk until its changes are tracked."
    if disk.change_id is None:
        return warning(check, "the snapshot has no change id", hint)
    try:
        spans = list(provider.changed_spans(snapshot.machine_id, snapshot.snapshot_id, disk.key, disk.change_id))
    except HoldfastError as error:
        return warning(check, error.message, hint)
    changed = sum(span.length for span in spans)
    return ok(check, f"change id {disk.change_id}, {changed} bytes changed since")


def _sample(provider: VSphereProvider, snapshot: Snapshot, disk: SnapshotDisk) -> tuple[Span, ...]:
    """Return what to read: what is allocated, as the first way that works tells, else the beginning."""
    try:
        with provider.open_disk(snapshot.machine_id, snapshot.snapshot_id, disk.key) as opened:
            return sample_of(opened.allocated_spans(), disk.size_bytes)
    except HoldfastError:
        # Each way says below what is wrong with it.
        return sample_of((), disk.size_bytes)


def _pieces(spans: tuple[Span, ...]) -> Iterator[Span]:
    for span in spans:
        for start in range(span.start, span.end, _CHUNK):
            yield Span(start, min(_CHUNK, span.end - start))
