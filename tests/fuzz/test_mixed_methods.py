"""Months of a machine in any mixture of methods: every point that is listed reads its bytes after every step."""

import random
from pathlib import Path

import msgspec
import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.chain import Chain, chain_file_names
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.health.verifier import verify_chain
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import KeptPoint, ProtectedMachine, point_differences
from holdfast.testing.crashfs import CrashFiles
from holdfast.testing.disks import PatternedDisk
from tests.fuzz.explorer import tell
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_upkeep import NOW

UNIT = 256 << 10


class Months:
    """A machine, and what is done with it and its chains."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.files = CrashFiles([Path("/")])
        self.files.can_share = self.rng.random() < 0.5
        passphrase = self.rng.choice([None, "correct horse"])
        self.machine: ProtectedMachine = make_machine({"a": 20, "b": 5}, self.files, passphrase, seed % 1000)
        self.passphrase = passphrase
        self.done: list[str] = []
        self.back_up()

    def step(self) -> None:
        names = ["back_up"] * 4 + ["reverse", "make_full", "compact", "merge", "drop_oldest", "full"]
        name = self.rng.choice(names)
        self.done.append(name)
        getattr(self, name)()

    @property
    def folder(self) -> Path:
        """The newest chain."""
        repository = self.machine.repository
        machine = repository.machine_folder(self.machine.machine_id, self.machine.name)
        return [folder for folder in repository.chain_folders(machine) if chain_file_names(self.files, folder)][-1]

    @property
    def upkeep(self) -> ChainUpkeep:
        return ChainUpkeep(self.files, self.folder, self.passphrase)

    def back_up(self) -> None:
        disks = self.machine.disks
        for disk in disks.values():
            for _ in range(self.rng.randrange(3)):
                pieces = disk.size_bytes // PIECE_SIZE
                first = self.rng.randrange(pieces)
                span = Span(first * PIECE_SIZE, self.rng.randrange(1, pieces - first + 1) * PIECE_SIZE)
                self.rng.choice([disk.write, disk.write, disk.zero])(span)
        if self.rng.random() < 0.2:
            disks["a"].resize(self.rng.randrange(8, 30) * PIECE_SIZE)
        if self.rng.random() < 0.1:
            disks["c"] = PatternedDisk(self.rng.randrange(99), 3 * PIECE_SIZE)
        if self.rng.random() < 0.1:
            disks.pop("c", None)
        self.machine.back_up()

    def full(self) -> None:
        store = self.machine.store
        self.machine.store = msgspec.structs.replace(store, full=True)
        self.machine.back_up()
        self.machine.store = store

    def reverse(self) -> None:
        make_newest_full(self.files, self.folder, self.passphrase, options=ReverseOptions(commit_bytes=UNIT))

    def make_full(self) -> None:
        repository = self.machine.repository
        synthesize(repository, repository.relative(self.folder), self.passphrase, commit_bytes=UNIT)

    def compact(self) -> None:
        compact(self.files, self.folder, self.passphrase, commit_bytes=UNIT)

    def merge(self) -> None:
        with Chain.open(self.files, self.folder, self.passphrase) as chain:
            usual = [file for file, _ in chain.points() if not file.is_rollback]
            rolled = len(chain.points()) - len(usual)
        count = self.rng.randrange(len(usual))
        if count and not rolled:
            names = [file.path.name for file in usual]
            self.upkeep.merge_all(names[0], names[1 : count + 1], commit_bytes=UNIT)

    def drop_oldest(self) -> None:
        with Chain.open(self.files, self.folder, self.passphrase) as chain:
            oldest, _ = chain.points()[0]
        if oldest.is_rollback:
            self.upkeep.remove([oldest.path.name], NOW)
            self.upkeep.purge(NOW.replace(year=2027))

    def check(self) -> None:
        repository = self.machine.repository
        known = {str(kept.summary.point_id): kept for kept in self.machine.kept}
        listed = list(repository.points(self.passphrase))
        assert len({found.point.id for found in listed}) == len(listed)
        assert listed[-1].point.id == self.machine.kept[-1].summary.point_id
        for found in listed:
            kept = known[found.point.id]
            assert found.point.root == kept.summary.root
            here = KeptPoint(msgspec.structs.replace(kept.summary, chain=found.chain), kept.disks)
            assert list(point_differences(repository, here, self.passphrase)) == []
        for name in {found.chain for found in listed}:
            with repository.open_chain(name, self.passphrase) as chain:
                check_chain(self.files, chain)
                assert verify_chain(chain, lambda _: None).damages == ()
        assert not self.files.open_handles


def live(seed: int, steps: int) -> None:
    months = Months(seed)
    for _ in range(steps):
        months.step()
        try:
            months.check()
        except Exception as error:
            error.add_note(f"seed {seed}: {', '.join(months.done)}")
            raise


def test_points_read_their_bytes_whatever_is_done_with_their_chains(seed: int) -> None:
    live(seed, 15)


@pytest.mark.soak
def test_points_read_their_bytes_for_many_seeds(seed: int) -> None:
    for number in range(40):
        live(seed + number, 30)
    tell("40 machines of 30 steps")
