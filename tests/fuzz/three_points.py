"""A machine of three points on the model file system, and every change that its chain may go through."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.merging import MergeResult
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import KeptPoint, ProtectedMachine, point_differences
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_upkeep import NOW

UNIT = 256 << 10
FULL = "00000001-full.hfc"
SECOND, THIRD = "00000002-increment.hfc", "00000003-increment.hfc"


class Enough(Exception):
    """The run ends here."""


class Place(NamedTuple):
    """A machine of three points and where its chain is."""

    machine: ProtectedMachine
    files: CrashFiles
    folder: Path

    @property
    def upkeep(self) -> ChainUpkeep:
        return ChainUpkeep(self.files, self.folder, self.machine.store.passphrase)

    def at(self, files: CrashFiles) -> "Place":
        """Return the same on another file system."""
        self.machine.repository.files = files
        return Place(self.machine, files, self.folder)


def three_points(files: CrashFiles | None = None, passphrase: str | None = None) -> Place:
    files = CrashFiles([Path("/")]) if files is None else files
    machine = make_machine({"a": 24, "b": 3}, files, passphrase)
    for turn in range(3):
        machine.disks["a"].write(Span(turn * PIECE_SIZE, 12 * PIECE_SIZE))
        machine.back_up()
    return place_of(machine)


def place_of(machine: ProtectedMachine) -> Place:
    """Return where the newest point of a machine is."""
    files = machine.repository.files
    assert isinstance(files, CrashFiles)
    return Place(machine, files, machine.repository.chain_folder(machine.kept[-1].summary.chain))


def merge(place: Place) -> MergeResult:
    return place.upkeep.merge_all(FULL, [SECOND, THIRD], commit_bytes=UNIT)


def compact_full(place: Place) -> None:
    compact(place.files, place.folder, place.machine.store.passphrase, commit_bytes=UNIT)


def make_full(place: Place) -> None:
    repository = place.machine.repository
    synthesize(repository, repository.relative(place.folder), place.machine.store.passphrase, commit_bytes=UNIT)


def reverse(place: Place) -> None:
    make_newest_full(
        place.files, place.folder, place.machine.store.passphrase, options=ReverseOptions(commit_bytes=UNIT)
    )


def remove_newest(place: Place) -> None:
    place.upkeep.remove([THIRD], NOW)


CHANGES: list[Callable[[Place], object]] = [merge, compact_full, make_full, reverse, remove_newest]
every_change = pytest.mark.parametrize("change", CHANGES)


def lost(place: Place) -> list[str]:
    """Return what of the points that are listed does not read its bytes."""
    repository, passphrase = place.machine.repository, place.machine.store.passphrase
    known = {str(kept.summary.point_id): kept for kept in place.machine.kept}
    found: list[str] = []
    for listed in repository.points(passphrase):
        if not listed.point.complete:
            continue
        kept = known[listed.point.id]
        here = KeptPoint(msgspec.structs.replace(kept.summary, chain=listed.chain), kept.disks)
        found += point_differences(repository, here, passphrase)
    return found
