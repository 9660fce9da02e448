"""A disk that a snapshot cannot protect is left out with a reason."""

from typing import Any

import pytest

from holdfast.model.ids import DiskKey
from holdfast.model.machine import DISK_SIZE_MAX
from holdfast.providers.vsphere.disk_rules import (
    DiskFacts,
    Mapping,
    base_file,
    datastore_of,
    path_in_datastore,
    reason_to_skip,
)


def disk(**changes: Any) -> DiskFacts:
    plain: dict[str, Any] = {
        "key": DiskKey("2000"),
        "label": "Hard disk 1",
        "size_bytes": 1 << 20,
        "file": "[ds] web/web.vmdk",
    }
    return DiskFacts(**(plain | changes))


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({}, None),
        ({"mapping": Mapping.VIRTUAL}, None),
        ({"encryption_key": "key-1"}, None),
        ({"is_child": True}, None),
        ({"mode": "append"}, None),
        ({"size_bytes": DISK_SIZE_MAX}, None),
        ({"mode": "independent_persistent"}, "independent"),
        ({"mode": "independent_nonpersistent"}, "independent"),
        ({"mapping": Mapping.PHYSICAL}, "physical mode"),
        ({"is_shared": True}, "several machines"),
        ({"size_bytes": 513}, "multiple of 512"),
        ({"size_bytes": 0}, "limits"),
        ({"size_bytes": DISK_SIZE_MAX + 512}, "limits"),
    ],
)
def test_a_disk_is_protected_or_there_is_a_reason(changes: dict[str, Any], reason: str | None) -> None:
    found = reason_to_skip(disk(**changes))
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    "path, store, inside",
    [
        ("[ds 1] web/web.vmdk", "ds 1", "web/web.vmdk"),
        ("[ds]web.vmdk", "ds", "web.vmdk"),
        ("[ds] a]b/c.vmdk", "ds", "a]b/c.vmdk"),
        ("web.vmdk", "", "web.vmdk"),
        ("", "", ""),
    ],
)
def test_a_datastore_path_has_two_parts(path: str, store: str, inside: str) -> None:
    assert (datastore_of(path), path_in_datastore(path)) == (store, inside)
    assert disk(file=path).datastore == store


@pytest.mark.parametrize(
    "path, base",
    [("web-000012.vmdk", "web.vmdk"), ("web.vmdk", "web.vmdk"), ("web-1.vmdk", "web-1.vmdk")],
)
def test_the_number_of_a_snapshot_is_taken_off_a_file(path: str, base: str) -> None:
    assert base_file(path) == base
