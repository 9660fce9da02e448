"""What is known of the health of stored data, and what a check, a scrub or a repair has found."""

from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.points import ChainRead, Damage, PointHealth


class BrokenChain(StrEnum):
    """What a backup does when the chain that it should continue is damaged beyond repair."""

    FAIL = "fail"
    """The machine fails until somebody has done something about it."""
    FULL = "full"
    """A new chain is begun with a full; the damaged one stays."""
    ASK = "ask"
    """Before its snapshot is taken, the machine waits for somebody to say which of the two."""


class ClosedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that a scrub could not open, because no passphrase that it was given fits."""

    chain: str
    code: str
    """Of the error that says why."""
    reason: str
    due_bytes: int
    """Of its files, that are to be read again now as far as can be told without opening them."""


class ScrubReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a scrub has read, and how old the oldest bytes are that it left."""

    planned_bytes: int = 0
    """Of chain files, that this scrub shall read."""
    done_bytes: int = 0
    """Of chain files, that it has dealt with."""
    checked_bytes: int = 0
    """Of records in them; the rest is free space and gaps."""
    stored_bytes: int = 0
    """Of all chain files."""
    chains: int = 0
    """That were read from."""
    damages: tuple[Damage, ...] = ()
    unnamed_damages: int = 0
    points: tuple[PointHealth, ...] = ()
    """Points of the damaged chains that are or were damaged."""
    oldest: datetime | None = None
    """When the bytes were read or written that have not been read for longest; None without any bytes."""
    overdue_bytes: int = 0
    """That have not been read for longer than the bound."""
    closed: tuple[ClosedChain, ...] = ()
    """Chains that were not read and are in no other figure here."""
    unnamed_closed: int = 0
    read: tuple[ChainRead, ...] = ()
    """What was read of chains, those first of which damage is known; of some only where they are many."""

    @property
    def is_done(self) -> bool:
        """Return whether everything planned is read."""
        return self.done_bytes >= self.planned_bytes

    @property
    def is_good(self) -> bool:
        """Return whether nothing is damaged."""
        return not self.damages and not self.unnamed_damages


class RepairReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair did, and what it could not."""

    chains: int = 0
    """That were looked at."""
    metadata: tuple[str, ...] = ()
    """Chains whose metadata was written anew."""
    rebuilt: tuple[str, ...] = ()
    """Files whose structure was rebuilt; the damaged ones are kept beside them."""
    set_aside: tuple[str, ...] = ()
    """Files that were renamed because they, or what they continue, cannot be read any more."""
    files: tuple[str, ...] = ()
    """Machine files that were stored again."""
    notes: int = 0
    """Records of notes that were written again."""
    repaired_pieces: int = 0
    """Pieces of 64 KiB that were stored again."""
    from_chain: int = 0
    """Of those, found in the same chain under the same digest."""
    from_chains: int = 0
    """Found in another chain of the repository."""
    from_copies: int = 0
    """Found in another repository."""
    damages: tuple[Damage, ...] = ()
    """What is still damaged."""
    unnamed_damages: int = 0
    points: tuple[PointHealth, ...] = ()
    """Points that are or were damaged."""

    @property
    def is_good(self) -> bool:
        """Return whether nothing is damaged any more."""
        return not self.damages and not self.unnamed_damages
