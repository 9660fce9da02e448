"""Nouns of the read plan: over which way a disk is read, and what a run does with each part of it."""

from enum import StrEnum

import msgspec

from holdfast.model.spans import Span


class ReadMode(StrEnum):
    """How a run learns what to store of a disk."""

    FULL = "full"
    """Everything allocated is read; there is no earlier point."""
    CHANGED = "changed"
    """The provider says what changed since the parent point; only that is read."""
    COMPARED = "compared"
    """Everything allocated is read and compared by digest with the parent point."""


class Action(StrEnum):
    """What is done with a span of a disk; what no step speaks of stays as in the parent point."""

    READ = "read"
    ZERO = "zero"


class PlanStep(msgspec.Struct, frozen=True):
    """One span and what is done with it."""

    span: Span
    action: Action


class ReadDecision(msgspec.Struct, frozen=True, kw_only=True):
    """How a disk is read and why, to be printed."""

    mode: ReadMode
    reason: str


class TransportMode(StrEnum):
    """Over which way the bytes of a disk come to the proxy; the best comes first."""

    DIRECT = "direct"
    """The proxy reads the storage itself."""
    HOT_ADD = "hot-add"
    """The disk is attached to the proxy, which is a machine of the same hypervisor."""
    NETWORK = "network"
    """A server of the hypervisor sends it, at any offset."""
    HTTPS = "https"
    """The hypervisor's file server sends ranges of the disk's file."""
    LEASE = "lease"
    """The hypervisor exports the disk as one stream, from its beginning to its end."""


class Transport(msgspec.Struct, frozen=True, kw_only=True):
    """How a disk is read and why, to be printed."""

    mode: TransportMode
    reason: str
    failed: tuple[str, ...] = ()
    """Modes that were preferred and did not work, with their errors; a session shows them."""
