"""Scrubbing and repairing stored data; served by the repository's worker, on the queue of long work."""

from datetime import datetime

import msgspec
from temporalio import activity

from holdfast.model.health import RepairReport, ScrubReport
from holdfast.model.ids import CredentialName, RepositoryName

SLICE_BYTES = 256 << 30
"""Read by one activity: minutes of fast storage, hours of slow."""


class ScrubSlice(msgspec.Struct, frozen=True, kw_only=True):
    """Read the oldest stored bytes again, as many as the bound asks for."""

    repository: RepositoryName
    credentials: tuple[CredentialName, ...] = ()
    """Of all chains that are encrypted."""
    days: int = 30
    """Within which every stored byte is read again."""
    every_s: int = 86400
    """From one run to the next."""
    left_bytes: int | None = None
    """What an earlier slice of the same run left; None: what is to be read is planned now."""
    began: datetime | None = None
    """When the run began: what was read since is not read again by it."""
    slice_bytes: int = SLICE_BYTES
    is_deep: bool = False
    """Decode every unit and compare its pieces with their digests, as a restore does."""


class ScrubCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a scrub, heartbeated; what was read when is in the health files of the chains."""

    chain: str
    planned_bytes: int
    done_bytes: int
    checked_bytes: int


class RepairChains(msgspec.Struct, frozen=True, kw_only=True):
    """Repair one chain, or all that are known to be damaged."""

    repository: RepositoryName
    chain: str | None = None
    credentials: tuple[CredentialName, ...] = ()
    copies: tuple[RepositoryName, ...] = ()
    """Other repositories that the worker reaches, where the same bytes may be."""


class RepairCursor(msgspec.Struct, frozen=True, kw_only=True):
    """Progress of a repair, heartbeated."""

    chain: str
    chains_done: int
    chains: int
    done: tuple[str, ...] = ()
    """Chains that this attempt or one before it is through with."""
    report: RepairReport = RepairReport()
    """What was done with them: they are damaged no more, so no later attempt could tell."""


@activity.defn(name="health.scrub")
def scrub(request: ScrubSlice) -> ScrubReport:
    """Read a slice of what is to be read again; goes on where an attempt before died."""
    raise AssertionError(request)


@activity.defn(name="health.repair")
def repair(request: RepairChains) -> RepairReport:
    """Repair what can be repaired, and name what cannot; may be repeated."""
    raise AssertionError(request)
