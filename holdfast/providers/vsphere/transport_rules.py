"""Over which way a frozen disk is read: facts in, an ordered list of candidates out.

The order is that of the settings, by default direct, hot-add, network, https, lease. What is known not to work is left
out with its reason; what may work is tried in turn, and what failed is told.
"""

from collections.abc import Sequence

import msgspec

from holdfast.model.plan import Transport, TransportMode


class DiskPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a frozen disk lies, and what stands in the way of plain reads."""

    datastore: str
    is_mounted: bool
    """Whether the proxy sees the datastore itself."""
    why_not_attached: str = ""
    """Why the disk cannot be attached to the proxy; empty when it can."""
    is_child: bool
    """Whether the frozen file is a child of another one, so that older snapshots are below it."""
    is_encrypted: bool = False
    """Whether the hypervisor encrypts the file."""


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """The ways that may work, best first, and why others are none."""

    ways: tuple[Transport, ...]
    left_out: tuple[str, ...]


def candidates(place: DiskPlace, allowed: Sequence[TransportMode]) -> Candidates:
    """Return the ways to read a disk at a place."""
    ways: list[Transport] = []
    left_out: list[str] = []
    for mode in allowed:
        reason = _why_not(mode, place)
        if reason is None:
            ways.append(Transport(mode=mode, reason=_why(mode, place, left_out)))
        else:
            left_out.append(f"not {mode}: {reason}")
    return Candidates(ways=tuple(ways), left_out=tuple(left_out))


def _why_not(mode: TransportMode, place: DiskPlace) -> str | None:
    if mode is TransportMode.NETWORK:
        return None
    if mode is TransportMode.HOT_ADD:
        return place.why_not_attached or None
    if mode is TransportMode.LEASE:
        return "encrypted machines are not exported" if place.is_encrypted else None
    if place.is_child:
        return "the machine had snapshots before ours"
    if mode is TransportMode.DIRECT and not place.is_mounted:
        return f"the proxy does not see datastore {place.datastore}"
    return None


def _why(mode: TransportMode, place: DiskPlace, left_out: Sequence[str]) -> str:
    if mode is TransportMode.DIRECT:
        return f"the proxy sees datastore {place.datastore}"
    if mode is TransportMode.HOT_ADD:
        return "; ".join(("the proxy is a machine of this vCenter", *left_out))
    return "; ".join(left_out) or "first in the settings"
