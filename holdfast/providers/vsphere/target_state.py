"""What a restore target is, as it is kept on the machine that holds its disks: values to text and back."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from holdfast.errors import DataDamaged
from holdfast.model.ids import DiskKey, MachineId, TargetId
from holdfast.model.machine import AS_ANOTHER, Disk, Identity, RestoreTarget
from holdfast.providers.vsphere.disk_rules import DiskFacts

STATE_KEY: Final = "holdfast.target"
"""Extra configuration of the machine that holds the disks until the commit."""
SWAP_KEY: Final = "holdfast.restored"
"""Extra configuration of a machine whose disks a commit has replaced."""
WATCH_KEY: Final = "holdfast.rollback"
"""Extra configuration of a machine that is rolled back: the target for which a start is watched for."""

_IN_PLACE: Final = "@in-place:"
_ID: Final = re.compile(r"[0-9a-f]{32}(@.+)?")


class StagedDisk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk that is being restored."""

    key: DiskKey
    """As the request has it."""
    size_bytes: int
    device: DiskKey
    """Key of the device on the machine that holds it."""
    file: str
    """Datastore path of its file."""
    controller: int
    """Key of the controller that it was made on."""
    unit: int


class TargetState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A prepared target. Fields are only ever added, with defaults.

    Defaults are not written, so earlier versions can read a target that does without the fields they do not know.
    """

    target_id: TargetId
    machine_name: str
    disks: tuple[StagedDisk, ...]
    replaces: MachineId | None
    is_complete: bool
    """Whether every disk is there; a preparation that died in the middle is begun anew."""
    identity: Identity = AS_ANOTHER
    """What the new machine keeps of the captured one."""
    notes: tuple[str, ...] = ()
    """What it has less well than asked, in words."""

    @property
    def target(self) -> RestoreTarget:
        """Return it as the port has it."""
        return RestoreTarget(
            target_id=self.target_id,
            machine_name=self.machine_name,
            disks=tuple(Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in self.disks),
            replaces=self.replaces,
            notes=self.notes,
        )

    def disk(self, key: DiskKey) -> StagedDisk | None:
        """Return the disk with this key, or None."""
        return next((disk for disk in self.disks if disk.key == key), None)


_TARGET_STATE_DECODER: Final = msgspec.json.Decoder(TargetState)


class OpenTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a target that is about to be written."""

    target_id: TargetId
    vm: Any
    """The machine that holds it."""
    facts: DiskFacts
    files: frozenset[str]
    """Every file of the target."""


class Swap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A replacement of disks that was carried out, and what is left to remove."""

    target_id: TargetId
    old_files: tuple[str, ...]
    is_tracking_due: bool = False
    """Whether change tracking was switched off for it, and is to be switched on again."""


_SWAP_DECODER: Final = msgspec.json.Decoder(Swap)


def encode(value: TargetState | Swap) -> str:
    """Return a value as extra configuration holds it."""
    return msgspec.json.encode(value).decode()


def decode_state(text: str, machine: str) -> TargetState:
    """Return the target that a machine holds. Raises `DataDamaged` when it cannot be read."""
    try:
        return _TARGET_STATE_DECODER.decode(text)
    except msgspec.DecodeError as error:
        raise DataDamaged(f"{STATE_KEY} of machine {machine!r} cannot be read: {error}") from error


def decode_swap(text: str) -> Swap | None:
    """Return the last replacement of a machine; None when what stands there is not of ours."""
    try:
        return _SWAP_DECODER.decode(text)
    except msgspec.DecodeError:
        return None


def instance_uuid(target_id: TargetId) -> str:
    """Return the instance uuid of the machine for a target, so that it is found whatever it is called."""
    digits = target_id[:32]
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def replacing(target_id: TargetId, machine_id: MachineId) -> TargetId:
    """Return the id of a target that replaces disks of a machine; it leads to the machine when the target is gone."""
    return TargetId(f"{target_id}@{machine_id}")


def in_place(target_id: TargetId, machine_id: MachineId) -> TargetId:
    """Return the id of a target whose disks are those of the machine."""
    return TargetId(f"{target_id}{_IN_PLACE}{machine_id}")


def in_place_machine(target_id: TargetId) -> MachineId | None:
    """Return the machine whose disks a target writes to; None for a target with disks of its own."""
    digits, mark, machine_id = target_id.partition(_IN_PLACE)
    return MachineId(machine_id) if mark and _ID.fullmatch(digits) else None


def replaced_by(target_id: TargetId) -> MachineId | None:
    """Return the machine that an id leads to, or None."""
    _, _, machine_id = target_id.partition("@")
    return MachineId(machine_id) if machine_id else None


def is_target_id(text: str) -> bool:
    """Return whether a text can be the id of a target."""
    return _ID.fullmatch(text) is not None


def with_files(state: TargetState, found: Sequence[DiskFacts]) -> TargetState:
    """Return a state with the devices and files that its disks got, in the same order."""
    disks = tuple(
        msgspec.structs.replace(disk, device=got.key, file=got.file, controller=got.controller, unit=got.unit)
        for disk, got in zip(state.disks, found, strict=True)
    )
    return msgspec.structs.replace(state, disks=disks, is_complete=True)
