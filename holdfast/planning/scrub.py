"""Which stored bytes a scrub reads today, so that every byte is read again within a number of days.

Facts in, plan out. The oldest come first. What is planned is the day's share of everything, and in any case what would
be too old before the next run. Nothing is remembered between runs but when each byte was read: a run that was missed or
died is made up for by the next.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import msgspec

from holdfast.model.health import ClosedChain
from holdfast.model.reads import ReadSpan, filled

RANGE_BYTES: Final = 64 << 20
"""Spans are cut at multiples of this."""


class ScrubRules(msgspec.Struct, frozen=True, kw_only=True):
    """The bound, and how often there is a run."""

    days: int
    """Within which every stored byte is read again."""
    every_s: int = 86400
    """Seconds from one run to the next."""


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A chain file as it stands."""

    chain: str
    file: str
    """Id."""
    size: int
    """Up to the end of its last commit."""
    written: datetime
    """When its newest point was made: bytes that were never read count as read then."""
    reads: tuple[ReadSpan, ...] = ()


class ScrubStep(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes ``[start, end)`` of a file that are to be read."""

    chain: str
    file: str
    start: int
    end: int
    read: datetime
    """When they were last read, or written."""

    @property
    def length(self) -> int:
        """Return how many bytes they are."""
        return self.end - self.start


class ScrubPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to read, oldest first."""

    steps: tuple[ScrubStep, ...] = ()
    planned_bytes: int = 0
    stored_bytes: int = 0
    """Of all files."""
    overdue_bytes: int = 0
    """That have not been read within the bound."""
    oldest: datetime | None = None
    closed: tuple[ClosedChain, ...] = ()
    """Chains that could not be opened, of whose bytes nothing else here speaks."""


def due_unopened(size: int, reads: Iterable[ReadSpan], now: datetime, rules: ScrubRules) -> int:
    """Return how many bytes of a chain of ``size`` bytes are to be read now, where nobody can open it.

    When its points were made stands in its files, so what was never read is due: rather too much than too little.
    """
    due = now + timedelta(seconds=rules.every_s) - timedelta(days=rules.days)
    return max(0, size - sum(span.end - span.start for span in reads if span.read > due))


def plan_scrub(
    files: Iterable[FileFacts],
    now: datetime,
    rules: ScrubRules,
    bytes_max: int | None = None,
    since: datetime | None = None,
) -> ScrubPlan:
    """Return what a run reads. ``bytes_max`` replaces the day's share, for a run that goes on with its plan.

    Such a run began at ``since``, and passes over what was read after that.

    Bytes that would pass the bound before the next run are planned beyond the share.
    """
    known = sorted(_spans(files), key=lambda step: (step.read, step.chain, step.file, step.start))
    stored = sum(step.length for step in known)
    bound, every = timedelta(days=rules.days), timedelta(seconds=rules.every_s)
    share = -(-stored * rules.every_s // (rules.days * 86400))
    wanted = share if bytes_max is None else bytes_max
    due = now + every - bound if bytes_max is None else None
    steps = tuple(_taken([step for step in known if since is None or step.read < since], wanted, due))
    return ScrubPlan(
        steps=steps,
        planned_bytes=sum(step.length for step in steps),
        stored_bytes=stored,
        overdue_bytes=sum(step.length for step in known if step.read < now - bound),
        oldest=known[0].read if known else None,
    )


def _taken(known: list[ScrubStep], wanted: int, due: datetime | None) -> Iterator[ScrubStep]:
    taken = 0
    for step in known:
        is_due = due is not None and step.read <= due
        if taken >= wanted and not is_due:
            return
        cut = step if is_due else _cut(step, wanted - taken)
        taken += cut.length
        yield cut


def _cut(step: ScrubStep, length: int) -> ScrubStep:
    """Return the beginning of a step, up to a multiple of `RANGE_BYTES` of its file."""
    end = -(-(step.start + length) // RANGE_BYTES) * RANGE_BYTES
    return msgspec.structs.replace(step, end=min(step.end, end))


def _spans(files: Iterable[FileFacts]) -> Iterator[ScrubStep]:
    """Yield the bytes of all files, each with the moment when it was read or written."""
    for facts in files:
        yield from (_step(facts, span) for span in filled(facts.reads, facts.size, facts.written))


def _step(facts: FileFacts, span: ReadSpan) -> ScrubStep:
    return ScrubStep(chain=facts.chain, file=facts.file, start=span.start, end=span.end, read=span.read)
