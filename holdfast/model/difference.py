"""What differs between two points of a machine."""

import msgspec

from holdfast.model.spans import Span


class ChangedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a volume that lies where bytes differ."""

    path: str
    changed_bytes: int
    """How many of the differing bytes are its own, whole pieces of 64 KiB counting as differing."""


class VolumeChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What differs in one volume, as the volume is at one of the points."""

    place: str
    """Where the volume is, in words."""
    kind: str = ""
    """ext, xfs, ntfs, swap; empty when it is none of them."""
    changed_bytes: int
    files: tuple[ChangedFile, ...] = ()
    """Those with the most bytes, the largest first."""
    unnamed_files: int = 0
    files_bytes: int = 0
    """What of the changed bytes lies in files, named or not; the rest is metadata, shared or free."""
    reason: str = ""
    """Why files are missing here or may be told wrongly; empty when all is well."""


class DiskDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What differs on one disk. A size is None at the point that does not have the disk."""

    key: str
    old_size_bytes: int | None
    new_size_bytes: int | None
    changed_bytes: int = 0
    spans: tuple[Span, ...] = ()
    """The first of them, in the order of the disk."""
    unnamed_spans: int = 0
    compared_by: str = ""
    """``digests`` when no byte of the disks was read, ``bytes`` when it had to be."""
    old_volumes: tuple[VolumeChanges, ...] = ()
    """Files as they lie at the old point."""
    new_volumes: tuple[VolumeChanges, ...] = ()
    reason: str = ""
    """Why no files were looked for; empty when they were, or nobody asked for them."""
