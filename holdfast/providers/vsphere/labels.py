"""What we write on things of ours in a vCenter, so that people and we know them again: values to text and back."""

import hashlib
import json
from typing import Final

import msgspec

from holdfast.model.machine import PowerState

_PROTECTION: Final = "Made by Holdfast before a rollback, which needs it until its end. Do not remove it."
_PURPOSE: Final = "Made by Holdfast for a backup, which removes it at its end."
_STAGING: Final = "holdfast-restore-"
_DIGITS: Final = 32
_LABEL: Final = "holdfast: "


class SnapshotLabel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the description of a snapshot says. Fields are only ever added, with defaults.

    What is as usual is not written, so that an earlier version knows what it would have made itself. A snapshot that
    it cannot know is to it one of somebody else, which nobody removes.
    """

    tag: str
    power: PowerState = PowerState.OFF
    """Whether the machine ran; vSphere itself does not tell that of a snapshot without memory."""
    notes: tuple[str, ...] = ()
    is_rest_asked: bool = False
    """Whether the guest was asked to come to rest. A guest without running tools is frozen as it is, and nobody is
    told but who looks at the snapshot."""
    target_id: str = ""
    """Of the restore target whose disks are those of the machine; the snapshot keeps what they held. It belongs to no
    backup, and removing it would make half a restore final."""
    disks: tuple[str, ...] = ()
    """Keys of the disks of that target."""
    is_watched: bool = False
    """Whether the machine is marked before anything is written, so that a start shows."""


_SNAPSHOT_LABEL_DECODER: Final = msgspec.json.Decoder(SnapshotLabel)


def staging_name(target_id: str) -> str:
    """Return the name of the machine that holds the disks of a restore until it is committed."""
    return f"{_STAGING}{target_id[:_DIGITS]}"


def is_staging(name: str) -> bool:
    """Return whether a machine is one of those."""
    return name.startswith(_STAGING)


def snapshot_name(tag: str) -> str:
    """Return the name of the snapshot for a tag, short enough for every list."""
    return f"Holdfast {hashlib.sha256(tag.encode()).hexdigest()[:8]}"


def snapshot_description(label: SnapshotLabel) -> str:
    """Return the description of a snapshot: a line for people and one for us."""
    # In plain ASCII, which every server keeps as it is.
    purpose = _PROTECTION if label.target_id else _PURPOSE
    return f"{purpose}\n{_LABEL}{json.dumps(msgspec.to_builtins(label))}"


def read_description(description: str) -> SnapshotLabel | None:
    """Return what a description says, or None when the snapshot is not of ours."""
    for line in description.split("\n"):
        if line.startswith(_LABEL):
            try:
                return _SNAPSHOT_LABEL_DECODER.decode(line.strip().removeprefix(_LABEL))
            except msgspec.DecodeError:
                return None
    return None
