"""What changed on a disk between two snapshots, as vSphere says."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from holdfast.errors import (
    AccessDenied,
    ChangeTrackingLost,
    HoldfastError,
    MachineNotFound,
    ProviderUnavailable,
    SnapshotNotFound,
)
from holdfast.model.ids import MachineId
from holdfast.model.spans import Span, coalesce
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.disk_rules import DiskFacts

ALLOCATED: Final = "*"
"""In place of a change id: ask for everything that was ever written."""


class FrozenDiskInVSphere(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a snapshot, as the API names it."""

    connection: Connection
    machine: Any
    snapshot: Any
    facts: DiskFacts
    tag: str = ""
    """Of the snapshot."""
    machine_id: MachineId = MachineId("")


def changed_areas(disk: FrozenDiskInVSphere, since: str) -> Iterator[Span]:
    """Yield, sorted, what changed since a change id up to the snapshot. Each answer covers a window of the disk.

    Raises `ChangeTrackingLost` while iterating, when vSphere cannot tell or tells nonsense.
    """
    # A run that reaches over the end of a window comes in two parts.
    return coalesce(_told_areas(disk, since))


def _told_areas(disk: FrozenDiskInVSphere, since: str) -> Iterator[Span]:
    size = disk.facts.size_bytes
    offset = end = 0
    while offset < size:
        window = _query(disk, offset, since)
        if window.startOffset != offset or window.length <= 0:
            raise ChangeTrackingLost(
                f"{_what(disk)}: asked from offset {offset}, told about {window.length} bytes from {window.startOffset}"
            )
        for area in sorted(window.changedArea or (), key=lambda area: int(area.start)):
            span = Span(int(area.start), int(area.length))
            if span.length <= 0 or span.start < end or span.end > size:
                raise ChangeTrackingLost(
                    f"{_what(disk)}: told an impossible area of {span.length} bytes at {span.start}"
                )
            end = span.end
            yield span
        offset += window.length


def _query(disk: FrozenDiskInVSphere, offset: int, since: str) -> Any:
    try:
        return disk.connection.call(
            _what(disk),
            lambda: disk.machine.QueryChangedDiskAreas(
                snapshot=disk.snapshot, deviceKey=int(disk.facts.key), startOffset=offset, changeId=since
            ),
        )
    except (AccessDenied, ProviderUnavailable):
        raise
    except MachineNotFound as error:
        raise SnapshotNotFound(f"snapshot {disk.snapshot._moId} is gone: {error.message}") from error
    except HoldfastError as error:
        raise ChangeTrackingLost(error.message) from error


def _what(disk: FrozenDiskInVSphere) -> str:
    return f"asking for the changes of disk {disk.facts.key} ({disk.facts.label})"
