"""Whether a restore begins with what the disks there hold and writes only what differs, or with empty disks.

Comparing pays where reading costs less than writing: not for a disk that is new and empty, and not where the disks
that are there had to be copied first.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from holdfast.model.machine import Disk
from holdfast.planning.rollback import unfit_for_rollback


class Delta(StrEnum):
    """What is wished."""

    AUTO = "auto"
    """Compare where the disks that are there can be had at no cost."""
    ALWAYS = "always"
    """Compare, or refuse."""
    NEVER = "never"
    """Write everything."""


class Beginning(StrEnum):
    """How the disks of a target begin."""

    EMPTY = "empty"
    SHARED = "shared"
    """With what the machine has where copies share its blocks, else empty."""
    PRESENT = "present"
    """With what the machine has."""


def decide_beginning(wish: Delta, present: Iterable[Disk], wanted: Sequence[Disk]) -> tuple[Beginning, str]:
    """Choose how disks begin that replace some of those ``present``; the text says why none can be compared.

    ``wanted`` carry the keys and sizes that they shall have there. The text is empty unless that was wished in vain.
    """
    if wish is Delta.NEVER:
        return Beginning.EMPTY, ""
    reason = unfit_for_rollback(present, wanted)
    if reason is None:
        return (Beginning.PRESENT if wish is Delta.ALWAYS else Beginning.SHARED), ""
    return Beginning.EMPTY, reason if wish is Delta.ALWAYS else ""


def explanation(compared: str, equal: str, written: str, *, is_resumed: bool) -> str:
    """Return in words what a comparison found, from the sizes in words."""
    what = "what an earlier attempt had written was compared" if is_resumed else "delta"
    return f"{what}: {compared} compared, {equal} equal, {written} written"
