"""Disks of datastores that this host sees as folders."""

from collections.abc import Mapping
from pathlib import Path

from holdfast.errors import DiskReadFailed
from holdfast.providers.vsphere import descriptors
from holdfast.providers.vsphere.disk_rules import DiskFacts, path_in_datastore


def flat_path(mounts: Mapping[str, Path], facts: DiskFacts) -> Path:
    """Return the file that holds the bytes of a disk. Raises `DiskReadFailed` when this host does not see it.

    Datastores of several datacenters may have one name, and machines in them folders of one name. So a file counts
    only when it says itself that it is this disk.
    """
    folder = mounts.get(facts.datastore)
    if folder is None:
        raise DiskReadFailed(f"the proxy does not see datastore {facts.datastore}")
    path = folder / path_in_datastore(facts.file)
    try:
        with path.open("rb") as file:
            text = file.read(descriptors.SIZE_MAX).decode("utf-8", "replace")
        descriptors.check_uuid(text, facts.uuid, str(path))
        flat = path.parent / descriptors.flat_file(text, facts.size_bytes, facts.file)
        size_bytes = flat.stat().st_size
    except OSError as error:
        raise DiskReadFailed(f"{path} cannot be read: {error.strerror}") from error
    if size_bytes != facts.size_bytes:
        raise DiskReadFailed(f"{flat} has {size_bytes} bytes, the disk has {facts.size_bytes}")
    return flat
