"""Which bytes of a chain file may be written next, so that both superblocks always name intact records."""

from itertools import chain

from holdfast.formats.magic import ALIGNMENT, RECORDS_START
from holdfast.storage.chain_files.holes import Holes, UsedSpans


class Space:
    """Hands out places for records. Sizes are multiples of the alignment.

    What commit *g* no longer names is still named by the superblock of commit *g - 1* until commit *g + 1* is durable;
    only then is it free. What an earlier opening left free is forgotten until `reclaim` is told what is in use.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        """First byte behind everything handed out so far."""
        self.keeps_released = False
        """Whether what is released stays as it is, for somebody may read it, until the file is opened again."""
        self.holes = Holes()
        self._released: list[tuple[int, int]] = []
        self._superseded: list[tuple[int, int]] = []
        self._freed_by_flight: list[tuple[int, int]] = []

    def reclaim(self, used: UsedSpans) -> int:
        """Take for free what none of these records is in; return how many bytes that are.

        They have to be the records that either superblock names, and what was released before is not among them.
        """
        self.holes, self._released, self._superseded, self._freed_by_flight = Holes(), [], [], []
        end, free = RECORDS_START, 0
        for offset, length in chain(used, [(self.end, 0)]):
            if offset > end:
                self.holes.add(end, offset - end)
                free += offset - end
            end = max(end, offset + length)
        return free

    def append(self, size: int) -> int:
        """Return a place behind everything else."""
        offset, self.end = self.end, self.end + size
        return offset

    def take(self, size: int) -> int:
        """Return a place in free space, or behind everything else."""
        offset = self.holes.take(size)
        return self.append(size) if offset is None else offset

    def give_back(self, offset: int, size: int) -> None:
        """Take a place back at once, to which nothing was written."""
        if offset + size == self.end:
            self.end = offset
        else:
            self.holes.add(offset, size)

    def release(self, offset: int, length: int) -> None:
        """Say that the next commit will not name a record any more."""
        if not self.keeps_released:
            self._released.append((offset, _aligned(length)))

    def commit_started(self) -> None:
        """Say that everything a commit names has been written."""
        self._freed_by_flight, self._superseded, self._released = self._superseded, self._released, []

    def commit_finished(self) -> None:
        """Say that the commit is durable: both superblocks now name commits without the space freed by it."""
        for offset, size in self._freed_by_flight:
            self.holes.add(offset, size)
        self._freed_by_flight = []


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT
