"""When bytes count as read that move between files, so that a scrub reads each again within its bound.

What is copied is read on the way. What is shared is not: it stays as old as it was where it came from.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from holdfast.formats.chain_health import ChainHealth
from holdfast.formats.pages import UnitEntry
from holdfast.model.reads import ReadSpan, ReadTimes, carried, filled
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.rewriter import ChainRewriter
from holdfast.storage.health.health_file import read_times

SPANS_MAX: Final = 16384
"""That are written down of a file which is built from others; neighbours become one beyond it."""
_ENDLESS: Final = 1 << 62


class MergedTimes:
    """When the bytes of a file count as read that takes in units of others, where its health file says so of places.

    Nobody may be told that a place was read before a unit came there which was not. So one is read before it is shared
    when its new place counts as read later than it; what comes to fresh space counts as the oldest of all that move.
    """

    def __init__(self, health: ChainHealth, writer: ChainRewriter, sources: Sequence[ChainFile]) -> None:
        self._sources = {source.contents.file: _times(health, source) for source in sources}
        self._fresh = min(times.oldest() for times in self._sources.values())
        end = writer.committed.end
        # Bytes that were never read would grow younger with each merge: they are as old as the point that leaves.
        self._here = ReadTimes(read_times(health, writer.contents, end).spans, self._fresh)

    def must_read(self, source: ChainFile, unit: UnitEntry, offset: int) -> bool:
        """Return whether a unit has to be read before its blocks are shared to a place of the file."""
        return self._sources[source.contents.file].at(unit.offset) < self._here.at(offset)

    def spans(self) -> tuple[ReadSpan, ...]:
        """Return when each byte of the file counts as read, also of those that have yet to come behind its end."""
        return filled(self._here.spans, _ENDLESS, self._fresh)


def carried_times(
    health: ChainHealth, writer: ChainRewriter, units: Iterable[tuple[ChainFile, int]]
) -> tuple[ReadSpan, ...]:
    """Return when the units of a new file count as read, which are those of others in this order: as they did there."""
    return carried(_moved(health, writer, units), SPANS_MAX)


def oldest_time(health: ChainHealth, file: ChainFile) -> datetime:
    """Return when the byte of a file was read that waits the longest."""
    return _times(health, file).oldest()


def _moved(
    health: ChainHealth, writer: ChainRewriter, units: Iterable[tuple[ChainFile, int]]
) -> Iterator[tuple[int, int, datetime]]:
    times: dict[str, ReadTimes] = {}
    for number, (source, theirs) in enumerate(units):
        if source.contents.file not in times:
            times[source.contents.file] = _times(health, source)
        here, there = writer.unit(number), source.unit(theirs)
        if here is not None and there is not None:
            yield here.offset, here.offset + here.length, times[source.contents.file].at(there.offset)


def _times(health: ChainHealth, file: ChainFile) -> ReadTimes:
    return read_times(health, file.contents, file.superblock.end)
