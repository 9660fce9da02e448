"""How a disk of vSphere is named to nbdkit's ``vddk`` plugin; see nbdkit-vddk-plugin(1).

The password is not among the parameters: it goes into the secrets of the server's plan.
"""

import re
from typing import Final, Literal

import msgspec

from holdfast.errors import RequestInvalid

PLUGIN: Final = "vddk"
TRANSPORTS: Final = ("file", "san", "hotadd", "nbdssl", "nbd")
_SHA1_DIGITS: Final = 40


class VddkDisk(msgspec.Struct, frozen=True, kw_only=True):
    """One disk of a machine, as vCenter or ESXi knows it."""

    libdir: str
    """Folder of VMware's library; empty: where the system's linker finds it."""
    server: str
    port: int = 443
    user: str
    thumbprint: str
    """SHA-1 of the server's certificate, in hexadecimal digits with or without colons."""
    vm: str
    """Reference of the machine, such as ``vm-42``."""
    snapshot: str | None
    """Reference of the snapshot, such as ``snapshot-7``; None: the disk as it is, which nobody else may hold open."""
    file: str
    """Datastore path of the descriptor, such as ``[datastore1] web/web.vmdk``."""
    transports: tuple[str, ...] = ("nbdssl", "nbd")
    """The first that works is taken."""
    compression: Literal["none", "zlib", "fastlz", "skipz"] = "none"
    """Of the data on the network; only the transport ``nbdssl`` has it."""


def vddk_parameters(disk: VddkDisk) -> dict[str, str]:
    """Return the plugin's parameters in the order of its manual. Raises RequestInvalid for what it would misread."""
    _check(disk)
    parameters = {
        "libdir": disk.libdir,
        "server": disk.server,
        "port": str(disk.port),
        "user": disk.user,
        "thumbprint": normal_thumbprint(disk.thumbprint),
        "vm": f"moref={disk.vm}",
        "snapshot": disk.snapshot or "",
        "transports": ":".join(disk.transports),
        "compression": "" if disk.compression == "none" else disk.compression,
        "file": disk.file,
    }
    return {name: value for name, value in parameters.items() if value}


def normal_thumbprint(thumbprint: str) -> str:
    """Return a SHA-1 thumbprint as pairs of digits with colons between them. Raises RequestInvalid."""
    digits = thumbprint.replace(":", "").upper()
    if not re.fullmatch(r"[0-9A-F]+", digits) or len(digits) != _SHA1_DIGITS:
        raise RequestInvalid(f"{thumbprint!r} is no SHA-1 thumbprint of a certificate")
    return ":".join(digits[at : at + 2] for at in range(0, _SHA1_DIGITS, 2))


def _check(disk: VddkDisk) -> None:
    for what, reference, shape in (
        ("machine", disk.vm, r"[\w-]+"),
        ("snapshot", disk.snapshot or "-", r"[\w-]+"),
        ("file of a datastore", disk.file, r"\[[^\]\n\0]+\] ?[^\n\0]+\.vmdk"),
        ("server", disk.server, r"[\w.:-]+"),
    ):
        if not re.fullmatch(shape, reference):
            raise RequestInvalid(f"{reference!r} does not name a {what}")
    unknown = [mode for mode in disk.transports if mode not in TRANSPORTS]
    if unknown or not disk.transports:
        raise RequestInvalid(f"transports {disk.transports!r}: known are {', '.join(TRANSPORTS)}")
