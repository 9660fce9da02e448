"""Parameters of the vddk plugin, as its manual words them."""

import msgspec
import pytest

from holdfast.errors import RequestInvalid
from holdfast.providers.nbd.vddk import VddkDisk, normal_thumbprint, vddk_parameters

THUMBPRINT = ":".join(["AB"] * 20)
DISK = VddkDisk(
    libdir="/opt/vmware-vix-disklib-distrib",
    server="vcenter.example",
    user="backup@vsphere.local",
    thumbprint="ab" * 20,
    vm="vm-42",
    snapshot="snapshot-7",
    file="[datastore 1] web/web.vmdk",
    compression="fastlz",
)


def test_a_snapshot_is_named_as_in_the_manual() -> None:
    assert [f"{name}={value}" for name, value in vddk_parameters(DISK).items()] == [
        "libdir=/opt/vmware-vix-disklib-distrib",
        "server=vcenter.example",
        "port=443",
        "user=backup@vsphere.local",
        f"thumbprint={THUMBPRINT}",
        "vm=moref=vm-42",
        "snapshot=snapshot-7",
        "transports=nbdssl:nbd",
        "compression=fastlz",
        "file=[datastore 1] web/web.vmdk",
    ]


def test_what_is_not_set_is_left_to_the_plugin() -> None:
    disk = msgspec.structs.replace(DISK, libdir="", snapshot=None, compression="none")
    assert not {"libdir", "snapshot", "compression"} & vddk_parameters(disk).keys()


@pytest.mark.parametrize("thumbprint", ["", "ab" * 32, "zz" * 20, "AB:" * 20 + "A"])
def test_only_a_sha1_thumbprint_is_taken(thumbprint: str) -> None:
    with pytest.raises(RequestInvalid, match="no SHA-1 thumbprint"):
        normal_thumbprint(thumbprint)


@pytest.mark.parametrize(
    "field, value, why",
    [
        ("vm", "moref=vm-1 x", "does not name a machine"),
        ("vm", "", "does not name a machine"),
        ("snapshot", "a b", "does not name a snapshot"),
        ("file", "web/web.vmdk", "does not name a file of a datastore"),
        ("file", "[ds] web/web-flat\n.vmdk", "does not name a file of a datastore"),
        ("server", "a b", "does not name a server"),
        ("transports", ("nbd", "carrier-pigeon"), "known are file, san"),
        ("transports", (), "known are file, san"),
    ],
)
def test_what_the_plugin_would_misread_is_refused(field: str, value: object, why: str) -> None:
    with pytest.raises(RequestInvalid, match=why):
        vddk_parameters(msgspec.structs.replace(DISK, **{field: value}))
