"""How much memory upkeep takes for the units that it moves: the same on a small disk and on a large one, compared.

Both disks are full of data, and no piece is like another, so every MiB is a unit of its own. The units hold next to
nothing, which takes nothing from their number, nor from the tables.
"""

import os
from pathlib import Path

import msgspec

from tests.bench.index_memory import add_growth
from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import run_child, settle
from tests.bench.ours import Ours
from tests.bench.reference import GIB

UPKEEP = "Memory of upkeep over many units"
_SIZES = (48 * GIB, 96 * GIB)
"""The tables of the smaller one fill what is kept of decoded pages."""
_COMMIT_BYTES = MIB
"""As many units as these bytes hold here, above a thousand, move from commit to commit where real blocks are shared;
sixty-four do where they are copied. Table pages stay in memory until the next commit."""
_STRIDES = (2, 16)
"""Every second piece of the disk is in the first increment, every sixteenth in the second: tables with many runs."""


def run_upkeep_memory(ledger: Ledger, sizes: tuple[int, int] = _SIZES) -> None:
    """Merge an increment of every second piece into a full, compact that, and make a synthetic full of the next."""
    add_growth(ledger, UPKEEP, sizes, [_peaks(ledger, size) for size in sizes])


def _peaks(ledger: Ledger, size: int) -> dict[str, float]:
    """Return the peak memory of each operation in MiB."""
    # Without a passphrase: deriving the key from one takes 64 MiB for a moment and would hide all else.
    ours, image = Ours(ledger.work, passphrase=None), ledger.work / "units.raw"
    ours.clean()
    settle()
    try:
        _fill(ours, image, size)
        peaks: dict[str, float] = {}
        for operation, name in (("merge", "merge"), ("compact", "compaction"), ("synthetic-full", "synthetic full")):
            request = msgspec.structs.replace(ours.request(operation), commit_bytes=_COMMIT_BYTES)
            measured, result = run_child(request)
            peaks[name] = measured.peak_mib
            ledger.add(UPKEEP, f"{name}, {size / GIB:g} GiB: units moved", result.parts["units"], "")
            ledger.add(UPKEEP, f"{name}, {size / GIB:g} GiB: peak memory", measured.peak_mib, "MiB")
            ledger.add(UPKEEP, f"{name}, {size / GIB:g} GiB: time", result.seconds, "s")
    finally:
        ours.clean()
        image.unlink()
    return peaks


def _fill(ours: Ours, image: Path, size: int) -> None:
    """Make a full of a disk and an increment for each stride."""
    image.touch(mode=0o600)
    os.truncate(image, size)
    for number, stride in enumerate((1, *_STRIDES)):
        run_child(msgspec.structs.replace(ours.request("fill", f"point-{number}", image), stride=stride))
