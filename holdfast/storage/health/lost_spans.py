"""What a point has lost to damage: pieces of its disks that the next one reads from the source again, or more."""

from collections.abc import Iterable, Sequence
from typing import Final

from holdfast.errors import ChainBroken
from holdfast.formats.contents import Point
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import DiskKey
from holdfast.model.points import DamagedSpan, Health
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.files.atomic import Files
from holdfast.storage.health.health_file import bad_units, read_health
from holdfast.storage.health.verifier import BadUnits, assess_damage

SPANS_MAX: Final = 200
"""Spans of a point that travel to the proxy; more become fewer and longer ones."""


def lost_pieces(disk: StoredDisk, bad: BadUnits) -> list[tuple[int, int]]:
    """Return the ranges of pieces of a disk that are in damaged units, in order."""
    found: list[tuple[int, int]] = []
    for run in disk.runs(0, disk.pieces) if bad else ():
        units = bad.get(run.file.contents.file) if run.file is not None else None
        if run.file is None or not units:
            continue
        for at in range(run.count):
            if (run.place + at) // run.file.pieces_per_unit in units:
                piece = run.piece + at
                if found and found[-1][1] == piece:
                    found[-1] = (found[-1][0], piece + 1)
                else:
                    found.append((piece, piece + 1))
    return found


def lost_spans(files: Files, chain: Chain, point: Point) -> tuple[DamagedSpan, ...]:
    """Return what of a point's disks is to be read again, at most `SPANS_MAX` spans.

    Raises `FileDamaged` or `ChainBroken` when its maps are damaged, too.
    """
    bad = bad_units(read_health(files, chain.folder))
    if not bad:
        return ()
    found = {disk.key: lost_pieces(chain.disk(point.number, disk.key), bad) for disk in point.disks}
    most = max(1, SPANS_MAX // max(1, sum(1 for ranges in found.values() if ranges)))
    return tuple(
        DamagedSpan(disk=DiskKey(key), start=start * PIECE_SIZE, length=(end - start) * PIECE_SIZE)
        for key, ranges in found.items()
        for start, end in joined_to(ranges, most)
    )


def check_parent(files: Files, chain: Chain, point: Point) -> None:
    """Raise `ChainBroken` when the point that a new one would rest on was found damaged, other than in its pieces."""
    health = read_health(files, chain.folder)
    mark = health.mark(point.number)
    if mark is None or mark.state is not Health.DAMAGED:
        return
    damages = assess_damage(chain, bad_units(health), [point.number]).damages
    broken = next((damage for damage in damages if damage.disk and not damage.length), None)
    if broken is not None:
        raise ChainBroken(
            f"point {point.number} of chain {chain.folder.name} is damaged: {broken.reason}",
            hint="Run `holdfast health repair`, or begin a new chain with `holdfast backup JOB --full`.",
        )


def joined_to(ranges: Sequence[tuple[int, int]], most: int) -> Iterable[tuple[int, int]]:
    """Return at most ``most`` ranges that cover all of these: those closest to each other become one."""
    if len(ranges) <= most:
        return ranges
    gaps = sorted(range(1, len(ranges)), key=lambda at: ranges[at][0] - ranges[at - 1][1], reverse=True)
    starts = [0, *sorted(gaps[: most - 1])]
    ends = [*starts[1:], len(ranges)]
    return [(ranges[first][0], ranges[end - 1][1]) for first, end in zip(starts, ends, strict=True)]
