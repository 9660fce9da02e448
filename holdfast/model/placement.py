"""Nouns of placement: what proxies can do, who asks for a slot, who has one."""

from datetime import datetime
from enum import IntEnum

import msgspec

from holdfast.model.ids import DiskKey, ProviderName, RepositoryName
from holdfast.model.plan import TransportMode


class Priority(IntEnum):
    """Whose turn it is when there are not slots for all; the higher goes first."""

    BACKUP = 300
    RESTORE = 800


class ProxyLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy that may be used, and how many disks it works on at once."""

    name: str
    tasks: int


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What a session may use, as its configuration says."""

    proxies: tuple[ProxyLimit, ...]
    repository_tasks: int
    """Disks that may be moved from or to the repository at once, over all proxies."""
    preferred: tuple[str, ...] = ()
    """Proxies that are close to the repository: taken before others, as long as they can."""


class DiskWay(msgspec.Struct, frozen=True, kw_only=True):
    """The best way that a proxy has to a disk."""

    disk: DiskKey
    mode: TransportMode | None
    """None: it has none."""
    reason: str = ""


class ProxyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a proxy showed."""

    name: str
    tasks: int
    problem: str = ""
    """Why it cannot be used, in words: nobody answers, or it does not reach provider or repository."""
    ways: tuple[DiskWay, ...] = ()
    """To the disks of the machine; empty when none was asked about."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy that can do the work."""

    name: str
    tasks: int
    rank: int = 0
    """Of the way to the disk that it reaches worst; 0 is the best there is."""
    is_preferred: bool = False
    reason: str = ""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Which proxies can do the work, best first, and why others cannot."""

    candidates: tuple[Candidate, ...]
    passed_over: tuple[str, ...] = ()


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks for a slot at one of several proxies and at a repository."""

    ticket: str
    """Draws the answer; a second claim of the same ticket is the same claim."""
    workflow_id: str
    run_id: str
    candidates: tuple[Candidate, ...]
    repository: RepositoryName
    repository_tasks: int
    priority: int
    asked: datetime
    """When the one who asks began; of equal priority the earlier goes first."""
    what: str = ""
    """For people who look at it."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that was given."""

    ticket: str
    proxy: str
    reason: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that somebody has."""

    claim: Claim
    grant: Grant
    since: datetime


class SlotsState(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a slot and who waits for one."""

    held: tuple[Held, ...] = ()
    waiting: tuple[Claim, ...] = ()


class Inquiry(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be found out about a proxy."""

    provider: ProviderName
    machine: str = ""
    """Id of the machine whose disks it shall reach; empty for none."""
    repository: RepositoryName
