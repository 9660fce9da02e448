"""A retention plan as steps that are carried out one by one, and the digest by which a plan is told from another."""

import hashlib

import msgspec

from holdfast.model.ids import PointId
from holdfast.planning.retention import PointVerdict, RetentionPlan, Verdict

DIGEST_DIGITS = 16


class RetentionStep(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one chain that are merged or removed."""

    chain: str
    files: tuple[str, ...]
    """In the order in which they go."""
    into: str = ""
    """The full that they are merged into; empty: they are removed."""
    points: tuple[PointId, ...]
    """That are gone afterwards."""
    let_go: tuple[PointId, ...] = ()
    """Of these, the last points of machines that are gone, which a merge leaves out."""
    size_bytes: int
    """Of the files."""


def steps_of(plan: RetentionPlan) -> tuple[RetentionStep, ...]:
    """Return what carries a plan out: removals first, because merges need room."""
    removals = [
        RetentionStep(
            chain=removal.chain,
            files=removal.files,
            points=_points(plan, removal.chain, Verdict.DELETED),
            size_bytes=removal.bytes_freed,
        )
        for removal in plan.removals
    ]
    merges = [
        RetentionStep(
            chain=merge.chain,
            files=merge.files,
            into=merge.into,
            points=_points(plan, merge.chain, Verdict.MERGED),
            size_bytes=merge.bytes_moved,
        )
        for merge in plan.merges
    ]
    return (*removals, *merges)


def plan_digest(plan: RetentionPlan, steps: tuple[RetentionStep, ...] | None = None) -> str:
    """Return what two plans have in common exactly when they do the same: to which points, through which files.

    ``steps`` are what carries the plan out where that is more than the plan says by itself: of files with points of
    several machines. Reasons are not part of it, because they name days.
    """
    verdicts = [(one.chain, one.number, one.point_id, one.verdict) for one in plan.points]
    text = msgspec.json.encode((verdicts, steps_of(plan) if steps is None else steps))
    return hashlib.sha256(text).hexdigest()[:DIGEST_DIGITS]


def joined_digest(digests: dict[str, str]) -> str:
    """Return the digest of the plans of several machines, by what they are called."""
    return hashlib.sha256(msgspec.json.encode(sorted(digests.items()))).hexdigest()[:DIGEST_DIGITS]


def count(points: tuple[PointVerdict, ...], verdict: Verdict) -> int:
    """Return how many points of a plan get a verdict."""
    return sum(point.verdict is verdict for point in points)


def _points(plan: RetentionPlan, chain: str, verdict: Verdict) -> tuple[PointId, ...]:
    return tuple([point.point_id for point in plan.points if point.verdict is verdict and point.chain == chain])
