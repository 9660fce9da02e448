"""Which stage of the data pipe holds the others up.

Each stage is given in per cent of the time of its task in which it was busy; the bottleneck is the busiest. Figures of
several disks add up, so a machine or a session has the mean over the time of its disks.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from holdfast.model.session import Figures


class Stage(StrEnum):
    """A stage of the data pipe, by the name that people see."""

    SOURCE = "Source"
    """Reading the disk of a backup, or the repository of a restore."""
    PROXY = "Proxy"
    """Digests, compression and decompression."""
    NETWORK = "Network"
    """The line between two movers."""
    TARGET = "Target"
    """Storing in the repository, or writing the disk of a restore."""
    THROTTLING = "Throttling"
    """A rule or a limit holds the work back on purpose."""


_FIRST_OF_EQUALS: Final = (Stage.THROTTLING, Stage.SOURCE, Stage.PROXY, Stage.TARGET, Stage.NETWORK)
"""A limit explains the stages behind it; a line is blamed last, because it also waits for both of its ends."""


def busy_percent(figures: Figures) -> dict[Stage, float]:
    """Return how busy each stage was, 0 to 100, in the order of the pipe; empty when nothing is known.

    Network and throttling are left out when they were not busy at all: most tasks have neither.
    """
    seconds = {
        Stage.SOURCE: figures.source_s,
        Stage.PROXY: figures.proxy_s,
        Stage.NETWORK: figures.network_s,
        Stage.TARGET: figures.target_s,
        Stage.THROTTLING: figures.throttled_s,
    }
    if figures.duration_s <= 0 or not any(seconds.values()):
        return {}
    always = (Stage.SOURCE, Stage.PROXY, Stage.TARGET)
    return {
        stage: min(100.0, 100.0 * busy_s / figures.duration_s)
        for stage, busy_s in seconds.items()
        if busy_s or stage in always
    }


def bottleneck(figures: Figures) -> Stage | None:
    """Return the stage that was busy most, None when nothing is known."""
    percent = busy_percent(figures)
    return max(_FIRST_OF_EQUALS, key=lambda stage: percent.get(stage, 0.0)) if percent else None


def bottleneck_words(figures: Figures) -> str:
    """Return the bottleneck with all stages, ``Proxy (Source 20 %, Proxy 93 %, Target 31 %)``; empty when unknown."""
    found = bottleneck(figures)
    if found is None:
        return ""
    return f"{found} ({', '.join(f'{stage} {part:.0f} %' for stage, part in busy_percent(figures).items())})"


def line_seconds(waited_s: float, lasted_s: float, excuses: Sequence[float]) -> float:
    """Return for how long a line held a pipe up that waited for it.

    Who waits for a line may in truth wait for what is at its other end, or for what takes from it. ``excuses`` are the
    seconds in which these were busy: only the rest of the time can be the line's.
    """
    return max(0.0, min(waited_s, lasted_s - max(excuses, default=0.0)))
