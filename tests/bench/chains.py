"""What upkeep of chains costs: a merge by the size of its increment and of the full it goes into."""

import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import run_child
from tests.bench.ours import Ours
from tests.bench.reference import GIB

MERGE = "Merging the oldest increment into the full"
SIZES = (GIB, 10 * GIB, 100 * GIB)
GROWTH_MAX = 2.0
"""The full is a hundred times larger, so a merge that read or wrote all of it would take some fifty times as long."""
_STRIDE = 16 * MIB
"""One MiB of data in each; for 100 GiB that is 6.3 GiB."""
_CHANGED = 1024
"""Pieces of an increment: 64 MiB, as much as the smallest full has."""
_RUN, _WINDOW, _WINDOWS = MIB // PIECE_SIZE, 32 * MIB // PIECE_SIZE, 24


def run_merging(ledger: Ledger, sizes: Sequence[int] = SIZES) -> None:
    """Merge increments of as many pieces into ever larger fulls."""
    medians: list[float] = []
    for size in sizes:
        times = [*_merges(ledger, size)]
        medians.append(sorted(times)[len(times) // 2])
    name = f"{sizes[-1] / GIB:g} GiB / {sizes[0] / GIB:g} GiB: time"
    ledger.add(MERGE, name, medians[-1] / medians[0], "x")
    ledger.set_goal(MERGE, name, GROWTH_MAX)


def _merges(ledger: Ledger, size: int) -> Sequence[float]:
    """Make a full, then increments that are merged one by one; return how long each merge took."""
    ours, image = Ours(ledger.work, passphrase=None), ledger.work / "sparse.raw"
    spans_file = image.with_suffix(".json")
    pieces = [at + piece for at in range(0, size, _STRIDE) for piece in range(0, MIB, PIECE_SIZE)]
    _write(image, pieces, size, random.Random(size).randbytes(PIECE_SIZE))
    ours.full(image)
    rng = random.Random(size)
    name = f"{size / GIB:g} GiB"
    times: list[float] = []
    try:
        for turn in range(1, ledger.runs + 1):
            changed = _changed(pieces, rng)
            _write(image, changed, size, rng.randbytes(PIECE_SIZE * _CHANGED))
            spans_file.write_bytes(msgspec.json.encode([Span(at, PIECE_SIZE) for at in changed]))
            ours.increment(f"increment-{turn}", image, str(spans_file))
            # The newest point has to be an increment, so the full takes in the one before it.
            if turn == 1:
                continue
            measured, result = run_child(ours.request("merge"))
            times.append(result.seconds)
            ledger.add(MERGE, f"{name}: time", result.seconds, "s")
            ledger.add(MERGE, f"{name}: moved", result.parts["moved"] / MIB, "MiB")
            ledger.add(MERGE, f"{name}: peak memory", measured.peak_mib, "MiB")
    finally:
        ours.clean()
        image.unlink()
        spans_file.unlink(missing_ok=True)
    return times


def _changed(pieces: Sequence[int], rng: random.Random) -> list[int]:
    """Return what an increment writes, as the change sets of the image have it.

    Half are runs, three eighths lie in hot windows, one eighth anywhere.
    """
    runs = rng.sample(range(0, len(pieces), _RUN), _CHANGED // 2 // _RUN)
    chosen = {first + piece for first in runs for piece in range(_RUN)}
    hot = [rng.randrange(max(1, len(pieces) - _WINDOW)) for _ in range(_WINDOWS)]
    while len(chosen) < _CHANGED * 7 // 8:
        chosen.add(min(len(pieces) - 1, rng.choice(hot) + rng.randrange(_WINDOW)))
    chosen |= {*rng.sample(sorted({*range(len(pieces))} - chosen), _CHANGED - len(chosen))}
    return [pieces[index] for index in sorted(chosen)]


def _write(image: Path, places: Sequence[int], size: int, content: bytes) -> None:
    """Write pieces to a sparse file, each with its place in it, so that none is known already."""
    descriptor = os.open(image, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.truncate(descriptor, size)
        for number, at in enumerate(places):
            start = number * PIECE_SIZE % len(content)
            os.pwrite(descriptor, struct.pack("<Q", at) + content[start + 8 : start + PIECE_SIZE], at)
    finally:
        os.close(descriptor)
