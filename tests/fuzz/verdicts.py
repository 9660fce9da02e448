"""What damage must be found where: the expected verdicts."""

from holdfast.formats.magic import PIECE_SIZE, PIECES_PER_PAGE
from holdfast.model.ids import SessionId
from holdfast.model.points import VerifyReport
from holdfast.storage.intake.lifecycle import begin_point
from tests.fuzz.damage import KEY, Region, SmallChain

HARMLESS = {"slot", "contents", "notes", "unit gap", "left over"}
"""One superblock or contents page of two; what only a rebuild reads; padding; what earlier commits left."""


def verdict(report: VerifyReport) -> tuple[set[tuple[int, int]], set[int]]:
    """Return the damaged (point, piece) pairs, and the points of which a disk is damaged as a whole."""
    pieces = {
        (damage.point, piece)
        for damage in report.damages
        for piece in range(damage.offset // PIECE_SIZE, -(-(damage.offset + damage.length) // PIECE_SIZE))
    }
    return pieces, {damage.point for damage in report.damages if not damage.length}


def held(chain: SmallChain, file: int) -> set[tuple[int, int]]:
    """Return (point, piece) of everything that points read from a file."""
    with chain.open() as opened:
        return {
            (point.number, run.piece + at)
            for _, point in opened.points()
            for run in opened.disk(point.number, KEY).runs(0, -(-chain.disk.size_bytes // PIECE_SIZE))
            for at in range(run.count if run.file is not None else 0)
            if run.file is not None and run.file.path == chain.paths[file]
        }


def expected(chain: SmallChain, file: int, region: Region, ordinal: int) -> tuple[set[tuple[int, int]], set[int]]:
    """Return what a flipped bit in a region must take with it. ``ordinal`` counts the regions of one name."""
    if region.name in HARMLESS:
        return set(), set()
    if region.unit >= 0:
        spans = chain.spans_of_unit(chain.paths[file], region.unit)
        return {(p, at // PIECE_SIZE) for p, start, n in spans for at in range(start, start + n, PIECE_SIZE)}, set()
    if region.name.startswith("map") or region.name == "machine file":
        return set(), {file + 1}
    needed = held(chain, file)
    if region.name == "pieces":
        return set(), {point for point, piece in needed if piece // PIECES_PER_PAGE == ordinal}
    if region.name == "pieces directory":
        return set(), {point for point, _ in needed}
    assert region.name in {"units", "digests"}
    return needed, {point for point, _ in needed} if region.name == "digests" else set()


def begin_again(chain: SmallChain) -> None:
    begin_point(chain.repository, SessionId("session-9"), chain.snapshot(9), chain.store)


def expected_behind(chain: SmallChain, region: Region, ordinal: int) -> tuple[set[tuple[int, int]], set[int]]:
    overlay, chain.files.overlay = chain.files.overlay, {}
    try:
        return expected(chain, 0, region, ordinal)
    finally:
        chain.files.overlay = overlay
