"""How long it takes to open points of a long chain: of increments, and of rollback files."""

import os
import random

import msgspec

from tests.bench.ledger import MIB, Ledger
from tests.bench.measure import run_child
from tests.bench.ours import Ours

OPENING = "Opening a point of a chain of 100 increments"
REVERSED = "Opening a point of a reversed chain of 100 rollback files"
OPENING_MS_MAX = 300
_FILES = 100
_DISK = 256 * MIB


def run_opening(ledger: Ledger, files: int = _FILES) -> None:
    """Grow a chain of small increments and a reversed one, and open points of either."""
    ages = {"newest": files + 1, "middle": files // 2 + 1, "oldest": 1}
    _open_points(ledger, OPENING, ages, is_reversed=False)
    _open_points(ledger, REVERSED, ages, is_reversed=True)


def _open_points(ledger: Ledger, section: str, ages: dict[str, int], *, is_reversed: bool) -> None:
    ours, image = Ours(ledger.work), ledger.work / "small.raw"
    ours.clean()
    rng = random.Random(100)
    image.write_bytes(rng.randbytes(16 * MIB))
    os.truncate(image, _DISK)
    count = max(ages.values()) - 1
    grow = msgspec.structs.replace(ours.request("grow", image=image), count=count, is_reversed=is_reversed)
    try:
        _, grown = run_child(grow)
        words = "written, finished and turned round" if is_reversed else "written and finished"
        ledger.add(section, f"one small increment, begun, {words}", grown.seconds / count * 1000, "ms")
        for _ in range(ledger.runs):
            for age, number in ages.items():
                _open(ledger, section, ours, (age, number))
    finally:
        ours.clean()
        image.unlink()


def _open(ledger: Ledger, section: str, ours: Ours, point: tuple[str, int]) -> None:
    age, number = point
    _, result = run_child(msgspec.structs.replace(ours.request("open"), point=number))
    ledger.add(section, f"{age}: files opened", result.parts["files"], "")
    ledger.add(section, f"{age}: runs of pieces found", result.parts["runs"], "")
    for words, part in (("with the passphrase derived", "first"), ("with the keys known", "again")):
        name = f"{age}: {words}"
        ledger.set_goal(section, name, OPENING_MS_MAX)
        ledger.add(section, name, result.parts[part] * 1000, "ms")
