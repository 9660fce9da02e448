"""What is done with a machine's chains once its point is there: an ordered list of steps, to be extended.

A step takes its wish from the `UpkeepOptions` of the request, so that a session that does not know of it, also one of
an earlier version, never carries it out. Each says in the details of the machine what it did.
"""

from collections.abc import Awaitable, Callable

import msgspec

from workflows.book import Book
from workflows.messages import MachineUpkeepRequest, Retained
from workflows.method_steps import apply_method, compact, wants_compact, wants_method
from workflows.removed_steps import purge, take_back, wants_purge, wants_taking_back
from workflows.retention_step import retain, retained_words


class Upkeep:
    """The upkeep of one machine, as its steps see it."""

    def __init__(self, request: MachineUpkeepRequest, book: Book) -> None:
        self.request = request
        self.book = book
        self.lines: list[tuple[str, str]] = []
        self.retained = Retained()

    def tell(self, step: str, what: str) -> None:
        """Say what a step did; the session's own details have the number of machines only."""
        self.lines.append((step, what))
        self.book.tell(step, what)


class UpkeepStep(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is done with the chains of a machine."""

    name: str
    """As details and notes have it."""
    is_wanted: Callable[[MachineUpkeepRequest], bool]
    """Answered from the request alone."""
    carry_out: Callable[[Upkeep], Awaitable[None]]
    """An error of it becomes a note, and the next step follows; a cancellation ends the upkeep."""


async def _retain(upkeep: Upkeep) -> None:
    upkeep.retained = await retain(upkeep.request, upkeep.book)
    upkeep.tell("Retention", retained_words(upkeep.retained))


async def _apply_method(upkeep: Upkeep) -> None:
    upkeep.tell("Method", await apply_method(upkeep.request, upkeep.book))


async def _compact(upkeep: Upkeep) -> None:
    upkeep.tell("Compaction", await compact(upkeep.request, upkeep.book))


async def _take_back(upkeep: Upkeep) -> None:
    upkeep.tell("Taken back", await take_back(upkeep.request, upkeep.book))


async def _purge(upkeep: Upkeep) -> None:
    upkeep.tell("Purged", await purge(upkeep.request, upkeep.book))


STEPS: tuple[UpkeepStep, ...] = (
    UpkeepStep(name="Method", is_wanted=wants_method, carry_out=_apply_method),
    UpkeepStep(name="Retention", is_wanted=lambda wish: wish.upkeep.retention is not None, carry_out=_retain),
    UpkeepStep(name="Compaction", is_wanted=wants_compact, carry_out=_compact),
    UpkeepStep(name="Taking back", is_wanted=wants_taking_back, carry_out=_take_back),
    UpkeepStep(name="Purge", is_wanted=wants_purge, carry_out=_purge),
)
"""In the order in which they are carried out."""
