"""When a job makes fulls, of what kind, and when it compacts them."""

from enum import StrEnum

import msgspec

from holdfast.model.compression import Compression
from holdfast.model.retention import Method


class PointKind(StrEnum):
    """How the next point of a machine comes about."""

    INCREMENT = "increment"
    """What changed is read and stored."""
    ACTIVE = "active full"
    """Everything is read from the machine and stored in a new chain."""
    SYNTHETIC = "synthetic full"
    """What changed is read; then the repository makes a full in a new chain of what it has."""


class FullDays(msgspec.Struct, frozen=True, kw_only=True):
    """On which days a full is due: on weekdays, each week or in one week of each month."""

    weekdays: tuple[int, ...]
    """0 is Monday, 6 is Sunday; each once, in this order."""
    week: int = 0
    """1 to 4: the first to fourth of the month; 5: the last; 0: of every week."""


class FullPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a job makes fulls without being asked; None for never."""

    active: FullDays | None = None
    synthetic: FullDays | None = None
    timezone: str = "UTC"
    """Whose days they are."""


class MethodOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with a machine's chain once its point is there, as the method of its job wants it."""

    method: Method = Method.FOREVER
    fulls: FullPolicy = FullPolicy()
    compact: FullDays | None = None
    """On which days a full that has become loose is written anew; None for never."""
    compression: Compression = Compression.ZSTD_1
    """Of what a newer point displaces."""
