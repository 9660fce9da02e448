"""Extents: the member folders of a repository."""

import msgspec


class ExtentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one extent before a file is placed on it."""

    name: str
    reachable: bool
    free_bytes: int = 0
    problem: str = ""
    """Why it is not reachable, in words."""


class ExtentChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file goes, and why."""

    extent: str
    reason: str
