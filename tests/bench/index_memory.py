"""How much memory the maps and digests of a disk take: the same operations on a small and on a large one, compared.

Both disks are full of data, which repeats itself after a GiB: little is stored, but every piece is in the tables.
"""

import os
import random
from collections.abc import Mapping, Sequence

import msgspec

from holdfast.model.compression import Compression
from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import run_child, settle
from tests.bench.ours import Ours
from tests.bench.reference import GIB

INDEX = "Memory of maps and digests"
MIB_PER_TIB_MAX = 64
_REPEATED = GIB
_SIZES = (16 * GIB, 48 * GIB)
"""Windows of bounded size, for deduplication above all, are full before the smaller one ends."""
_TIB = 1024 * GIB


def run_index_memory(ledger: Ledger, sizes: tuple[int, int] = _SIZES) -> None:
    """Make a full and an increment that compares everything of either disk, and find all pieces of the newest point."""
    add_growth(ledger, INDEX, sizes, [_peaks(ledger, size) for size in sizes])


def add_growth(ledger: Ledger, section: str, sizes: tuple[int, int], peaks: Sequence[Mapping[str, float]]) -> None:
    """Note by how much the peak of each operation grows from the small disk to the large one, for 1 TiB."""
    small, large = peaks
    for operation, peak_mib in large.items():
        name = f"{operation}: peak memory of {sizes[1] / GIB:g} GiB beyond that of {sizes[0] / GIB:g} GiB, for 1 TiB"
        ledger.set_goal(section, name, MIB_PER_TIB_MAX)
        grown_mib = max(0.0, peak_mib - small[operation])
        ledger.add(section, name, grown_mib * _TIB / (sizes[1] - sizes[0]), "MiB")


def _peaks(ledger: Ledger, size: int) -> dict[str, float]:
    """Return the peak memory of each operation in MiB."""
    # Without a passphrase: deriving the key from one takes 64 MiB for a moment and would hide all else.
    ours = Ours(ledger.work, passphrase=None)
    ours.clean()
    settle()
    image = ledger.work / "repeated.raw"
    image.write_bytes(random.Random(7).randbytes(MIB))
    os.truncate(image, size)
    backup = msgspec.structs.replace(
        ours.request("backup", image=image),
        from_memory=True,
        repeated_bytes=_REPEATED,
        compression=Compression.NONE,
    )
    peaks = {
        session: run_child(msgspec.structs.replace(backup, session=session))[0].peak_mib
        for session in ("full", "increment that compares everything")
    }
    peaks["every piece found"] = run_child(ours.request("open"))[0].peak_mib
    ours.clean()
    image.unlink()
    return peaks
