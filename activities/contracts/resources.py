"""Slots of proxies and repositories: what a proxy can do, and asking the scheduler for a slot.

The look is served by the proxy it is about, everything else by the control role. The scheduler is the workflow
`workflows.resources.GrantSlots`; it answers a claim by the signal ``granted`` to the workflow that asked.
"""

import msgspec
from temporalio import activity

from holdfast.model.placement import Claim, DiskWay, Inquiry

SCHEDULER = "GrantSlots"
"""Type of the workflow that gives slots."""
SCHEDULER_ID = "resources"
"""Its id: there is one."""
CLAIM = "claim"
RELEASE = "release"
GRANTED = "granted"


class ProxySeen(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy says of itself."""

    ways: tuple[DiskWay, ...] = ()


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A slot that is given back, or not wanted any more."""

    ticket: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler knows."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a workflow."""

    workflow_id: str
    run_id: str


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of workflows."""

    runs: tuple[Run, ...]


@activity.defn(name="proxy.look")
def look(request: Inquiry) -> ProxySeen:
    """Return how the proxy reaches a machine. Raises what keeps it from reaching provider or repository."""
    raise AssertionError(request)


@activity.defn(name="resources.claim")
def claim(request: Claim) -> Told:
    """Ask for a slot; the scheduler is started when there is none. Idempotent by ticket."""
    raise AssertionError(request)


@activity.defn(name="resources.release")
def release(request: Release) -> Told:
    """Give a slot back. Idempotent."""
    raise AssertionError(request)


@activity.defn(name="resources.find_gone")
def find_gone(request: Runs) -> Runs:
    """Return those of the runs that have ended, or are not known any more."""
    raise AssertionError(request)
