"""Swap space of Linux: a header page, and pages whose content nobody asks for after a start of the machine."""

import struct

from holdfast.guest.volume import VolumeState
from holdfast.guest.window import Window
from holdfast.model.spans import Span

_PAGE_SIZES = (4096, 8192, 16384, 32768, 65536)
_PLAIN = b"SWAPSPACE2"
_KEPT = (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001", b"SWAP-SPACE")
_HEADER = struct.Struct("<III")
_HEADER_AT = 1024
_VERSION = 1


def signature(volume: Window) -> tuple[int, bytes] | None:
    """Return page size and mark of swap space; None when the volume is none."""
    for size in _PAGE_SIZES:
        mark = volume.peek(size - len(_PLAIN), len(_PLAIN))
        if mark == _PLAIN or mark in _KEPT:
            return size, mark
    return None


def unneeded(volume: Window) -> tuple[VolumeState, str, Span | None]:
    """Return the state of swap space, why it is not clean, and the pages behind its header.

    The header is kept: the machine finds its swap space by it.
    """
    found = signature(volume)
    if found is None:
        return VolumeState.UNKNOWN, "it has no mark of swap space", None
    page, mark = found
    if mark != _PLAIN:
        return VolumeState.UNCLEAN, "it may hold the memory of a machine that sleeps", None
    version, last, _ = _HEADER.unpack(volume.read(_HEADER_AT, _HEADER.size))
    if version != _VERSION or not 0 < last < volume.size // page:
        return VolumeState.UNKNOWN, "the header of the swap space is damaged", None
    return VolumeState.CLEAN, "", Span(page, last * page)
