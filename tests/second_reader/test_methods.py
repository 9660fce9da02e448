"""The second reader on chains as the methods leave them: it restores every point, byte by byte."""

from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.lifecycle import StoreOptions
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.reversing import make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import CHEAP, KeptPoint, ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import PIPE
from tests.holdfast.storage.jobs import Job
from tests.second_reader import reader

FULL = "00000001-full.hfc"


@pytest.fixture(params=[None, "secret"], ids=["plain", "encrypted"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> ProtectedMachine:
    """A machine with four points."""
    repository = Repository.create(tmp_path / "repository", HostFiles(), "id", SystemClock().now())
    store = StoreOptions(unit_size=256 << 10, passphrase=request.param, passphrase_cost=CHEAP)
    made = ProtectedMachine(repository, 1, {"a": 20 * PIECE_SIZE, "b": 5 * PIECE_SIZE}, store, PIPE)
    for disk in made.disks.values():
        disk.write(Span(0, disk.size_bytes))
    for turn in range(4):
        made.disks["a"].write(Span(turn * PIECE_SIZE, 3 * PIECE_SIZE))
        made.disks["b"].zero(Span(turn * PIECE_SIZE, PIECE_SIZE))
        made.back_up()
    return made


def assert_read(machine: ProtectedMachine, folder: Path) -> None:
    """The second reader restores every point of a machine."""
    secret = folder / "passphrase"
    secret.write_text(f"{machine.store.passphrase}\n")
    for kept in machine.kept:
        out = folder / f"out-{kept.summary.number}-{len(list(folder.iterdir()))}"
        chain = machine.repository.chain_folder(kept.summary.chain)
        where = [str(chain), "--restore", str(kept.summary.number), "--machine", machine.machine_id, "--out", str(out)]
        more = [] if machine.store.passphrase is None else ["--passphrase-file", str(secret)]
        assert reader.main([*where, *more]) == 0
        for key, disk in kept.disks.items():
            assert disk.difference(0, (out / f"{key}.raw").read_bytes()) is None


def folder_of(machine: ProtectedMachine) -> Path:
    return machine.repository.chain_folder(machine.kept[-1].summary.chain)


def test_reversed_points_also_with_an_increment_behind_the_full(machine: ProtectedMachine, tmp_path: Path) -> None:
    passphrase = machine.store.passphrase
    make_newest_full(machine.repository.files, folder_of(machine), passphrase)
    assert_read(machine, tmp_path)
    machine.disks["a"].write(Span(9 * PIECE_SIZE, 3 * PIECE_SIZE))
    machine.back_up()
    assert_read(machine, tmp_path)


def test_a_synthetic_full_and_the_chain_it_left(machine: ProtectedMachine, tmp_path: Path) -> None:
    summary, _ = synthesize(machine.repository, machine.kept[-1].summary.chain, machine.store.passphrase)
    machine.kept[-1] = KeptPoint(summary, machine.kept[-1].disks)
    machine.back_up()
    assert_read(machine, tmp_path)


def test_what_moved_in_one_pass_and_was_compacted(machine: ProtectedMachine, tmp_path: Path) -> None:
    folder, passphrase = folder_of(machine), machine.store.passphrase
    increments = ["00000002-increment.hfc", "00000003-increment.hfc"]
    ChainUpkeep(machine.repository.files, folder, passphrase).merge_all(FULL, increments)
    del machine.kept[:2]
    assert_read(machine, tmp_path)
    compact(machine.repository.files, folder, passphrase)
    assert_read(machine, tmp_path)


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_a_chain_that_machines_share_also_while_the_next_one_writes(passphrase: str | None, tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "repository", HostFiles(), "id", SystemClock().now())
    job = Job(CrashFiles(), passphrase, repository)
    job.run()
    job.change()
    job.a.back_up()
    job.half_written(job.b)
    for machine in job.machines:
        assert_read(machine, tmp_path)
    job.abandon(job.b)
    job.change(1)
    job.run()
    for machine in job.machines:
        assert_read(machine, tmp_path)
