"""The tree of a machine's snapshots: every one, and which are ours."""

from collections.abc import Iterator
from typing import Any, Final

from holdfast.providers.vsphere.labels import SnapshotLabel, read_description

TREE: Final = "snapshot.rootSnapshotList"
"""Where a machine has it; unset on a machine without snapshots."""


def entries(tree: Any) -> Iterator[Any]:
    """Yield every snapshot of a tree; a tree may be deeper than Python likes to recurse."""
    left = list(tree or ())
    while left:
        entry = left.pop()
        yield entry
        left.extend(entry.childSnapshotList or ())


def ours(tree: Any) -> list[tuple[Any, SnapshotLabel]]:
    """Return the snapshots that our backups took with their labels, oldest first."""
    return [(entry, label) for entry, label in _labelled(tree) if not label.target_id]


def protective(tree: Any) -> list[tuple[Any, SnapshotLabel]]:
    """Return the snapshots that keep what disks held before a restore into them, with their labels, oldest first."""
    return [(entry, label) for entry, label in _labelled(tree) if label.target_id]


def foreign(tree: Any) -> list[str]:
    """Return the names of the snapshots of others."""
    return sorted(entry.name for entry in entries(tree) if read_description(entry.description or "") is None)


def _labelled(tree: Any) -> list[tuple[Any, SnapshotLabel]]:
    labelled = ((entry, read_description(entry.description or "")) for entry in entries(tree))
    return sorted(((entry, label) for entry, label in labelled if label is not None), key=lambda found: found[0].id)
