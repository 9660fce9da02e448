"""What the survey of a disk says of each volume found on it."""

from enum import StrEnum

import msgspec

from holdfast.model.spans import Span


class VolumeState(StrEnum):
    """How far the allocation data of a volume is believed."""

    CLEAN = "clean"
    """Nothing waits in a journal: what the volume says of its blocks is so."""
    UNCLEAN = "unclean"
    """The volume is in use, or was not left in order: its journal may say otherwise, so every block counts as used."""
    UNKNOWN = "unknown"
    """Not understood, or damaged: every block counts as used."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A volume before anybody looked inside: consecutive bytes that lie in these spans of the disk, in this order."""

    place: str
    """Where it is, in words: the whole disk, a partition, a logical volume."""
    spans: tuple[Span, ...]
    obstacle: str = ""
    """Why nobody should look inside; empty when somebody should."""


class VolumeUse(msgspec.Struct, frozen=True, kw_only=True):
    """A volume and what of it is not needed."""

    place: str
    kind: str
    """ext, xfs, ntfs, swap; empty when it is none of them."""
    spans: tuple[Span, ...]
    state: VolumeState
    reason: str = ""
    """Why the state is not clean; empty when it is."""
    is_asleep: bool = False
    """Whether it may hold the memory of a machine that sleeps: swap anywhere belongs to that memory."""
    deleted_bytes: int = 0
    """In runs of free blocks that are long enough to be left out."""
    swap_bytes: int = 0
    """In swap space and page files."""
    files_bytes: int = 0
    """In files that masks mean."""
    files_reason: str = ""
    """Why not all of these were found; empty when they were, or nobody asked for any."""
