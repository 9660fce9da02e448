"""Which points a file has once others are merged into it: of each machine the last one.

A chain of one machine leaves one point. In a chain that the machines of a job share each comes from the file of the
last session in which it succeeded, which may be the file that takes the others in.
"""

from collections.abc import Collection, Iterator, Sequence

import msgspec

from holdfast.errors import PlanChanged
from holdfast.formats.contents import Point


class Expendable(msgspec.Struct, frozen=True, kw_only=True):
    """Which points a merge may take away, by their ids."""

    points: frozenset[str] | None = None
    """None: whichever have a later one."""
    let_go: tuple[str, ...] = ()
    """Those that go although their machine has no later one: it is gone."""

    def check(self, going: Sequence[Point]) -> None:
        """Raise `PlanChanged` when another point would go."""
        other = next((point for point in going if self.points is not None and point.id not in self.points), None)
        if other is not None:
            raise PlanChanged(
                f"point {other.number} of {other.machine.name} would go with the merge and was not meant to",
                hint="Somebody added a later point meanwhile; the next run of retention plans anew.",
            )


ALL_OUTDATED = Expendable()


class Succession(msgspec.Struct, frozen=True):
    """What becomes of the points of a file and of those that are merged into it."""

    stays: tuple[Point, ...]
    """Points that the file has already, of machines that have none in the others."""
    taken: tuple[tuple[int, Point], ...]
    """Points that come in, each with the index of the file that has it, in the order of their numbers."""
    going: tuple[Point, ...]
    """All others."""


def succeed(here: Sequence[Point], sources: Sequence[Sequence[Point]], let_go: Collection[str] = ()) -> Succession:
    """Return what becomes of the points ``here`` when ``sources``, oldest first, are merged into their file.

    ``let_go`` are ids of points that go although their machine has no later one: it is gone. Points of the last source
    stay in any case.
    """
    last: dict[str, tuple[int, Point]] = {}
    for index, points in ((-1, here), *enumerate(sources)):
        last |= {point.machine.machine_id: (index, point) for point in points}
    kept = {
        point.id: (index, point)
        for index, point in last.values()
        if point.id not in let_go or index == len(sources) - 1
    }
    in_order = sorted(kept.values(), key=lambda pair: pair[1].number)
    return Succession(
        stays=tuple(point for index, point in in_order if index < 0),
        taken=tuple((index, point) for index, point in in_order if index >= 0),
        going=tuple(point for point in _all(here, sources) if point.id not in kept),
    )


def _all(here: Sequence[Point], sources: Sequence[Sequence[Point]]) -> Iterator[Point]:
    yield from here
    for points in sources:
        yield from points
