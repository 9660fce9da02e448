"""A disk goes through the pipe into a point and comes out the same, whatever unit, compression and encryption."""

import random

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE, UNIT_SIZES
from holdfast.model.compression import Compression
from holdfast.model.plan import ReadMode
from holdfast.model.points import PointSummary
from holdfast.model.spans import Span
from holdfast.pipeline.restore import DiskRestore, compare_target
from holdfast.pipeline.stages import PipeOptions
from holdfast.storage.intake.finishing import finish_point
from holdfast.testing.chains import ProtectedMachine, transfer_disk
from holdfast.testing.sparse import SparseDisk
from tests.holdfast.pipeline.points import MIB, SEGMENT, make, text_into

# -- the same bytes come out --------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, "correct horse"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("unit_size", UNIT_SIZES)
def test_every_unit_size_compression_and_cipher_gives_back_the_bytes(
    seed: int, unit_size: int, compression: Compression, passphrase: str | None
) -> None:
    rng = random.Random(seed)
    pipe = PipeOptions(compression=compression, commit_new_bytes=MIB, commit_interval_s=1e9)
    machine = make({"a": 2 * MIB + 512, "b": 3 * PIECE_SIZE}, unit_size=unit_size, passphrase=passphrase, pipe=pipe)
    for _ in range(2):
        for disk in machine.disks.values():
            text_into(disk, rng)
        machine.back_up(rng.choice([ReadMode.CHANGED, ReadMode.COMPARED]))
    assert machine.differences() == []


@pytest.mark.parametrize(
    "size",
    [
        0,
        512,
        PIECE_SIZE - 512,
        PIECE_SIZE,
        PIECE_SIZE + 512,
        SEGMENT - PIECE_SIZE,
        SEGMENT - 512,
        SEGMENT,
        SEGMENT + 512,
    ],
)
def test_every_size_of_a_disk_gives_back_the_bytes(size: int) -> None:
    disk = SparseDisk(size)
    last = -(-size // PIECE_SIZE) - 1
    if size:
        disk.put(0, b"first" * 20_000)
        disk.put(last, b"last" * 20_000)
    first = disk.copy()
    machine = make({"a": size})
    for number in (1, 2):
        machine.sessions = number
        transfer_sparse(machine, disk)
        if size and number == 1:
            disk.put(last, b"changed" * 20_000)
    for number, expected in ((1, first.pieces), (2, disk.pieces)):
        assert restored_sparse(machine, number) == expected


def transfer_sparse(machine: ProtectedMachine, disk: SparseDisk) -> PointSummary:
    opened = machine.begin()
    transfer_disk(machine.repository, opened, "a", disk, (ReadMode.COMPARED, [], machine.store, machine.pipe))
    return finish_point(machine.repository, opened, machine.store.passphrase)


def restored_sparse(machine: ProtectedMachine, number: int) -> dict[int, bytes]:
    chain_name = machine.repository.relative(machine.repository.chain_folders()[0])
    with machine.repository.open_chain(chain_name, None) as chain:
        source = chain.disk(number, "a")
        target = SparseDisk(source.size_bytes)
        key = chain.files[0].keys.digest_key
        DiskRestore(source, target, key, SystemClock()).run(0, lambda _: None)
        compare_target(source, target, key, lambda _: None)
    return target.pieces


def test_a_disk_of_zeros_stores_nothing() -> None:
    machine = make({"a": SEGMENT + PIECE_SIZE})
    machine.sessions = 1
    assert transfer_sparse(machine, SparseDisk(SEGMENT + PIECE_SIZE)).file_bytes < 100_000
    assert restored_sparse(machine, 1) == {}


def test_pieces_that_became_zeros_are_zeros_and_cost_nothing() -> None:
    machine = make({"a": 20 * PIECE_SIZE})
    machine.disks["a"].write(Span(0, 20 * PIECE_SIZE))
    machine.back_up()
    machine.disks["a"].zero(Span(PIECE_SIZE, 15 * PIECE_SIZE))
    summary = machine.back_up()
    assert summary.file_bytes < 100_000
    machine.disks["a"].write(Span(3 * PIECE_SIZE, 512))
    machine.back_up()
    assert machine.differences() == []


def test_comparing_stores_the_same_as_knowing_what_changed(seed: int) -> None:
    summaries = []
    for mode in (ReadMode.CHANGED, ReadMode.COMPARED):
        rng = random.Random(seed)
        machine = make({"a": 4 * MIB})
        text_into(machine.disks["a"], rng)
        machine.back_up()
        text_into(machine.disks["a"], rng)
        summary = machine.back_up(mode)
        assert machine.differences() == []
        with machine.repository.open_chain(summary.chain, None) as chain:
            file, point = chain.point(2)
            maps = list(chain.disk(2, "a").writers(0, 64))
            summaries.append((file.contents.units.count, point.disks[0].size, maps))
    assert summaries[0] == summaries[1]


def test_content_that_is_named_as_changed_and_is_not_is_not_stored() -> None:
    machine = make({"a": 10 * PIECE_SIZE})
    machine.disks["a"].write(Span(0, 10 * PIECE_SIZE))
    machine.back_up()
    before = machine.disks["a"].copy()
    machine.disks["a"].write(Span(0, 10 * PIECE_SIZE))
    machine.disks["a"].versions = before.versions[:]
    summary = machine.back_up(ReadMode.COMPARED)
    with machine.repository.open_chain(summary.chain, None) as chain:
        assert chain.files[1].contents.units.count == 0


def test_the_root_of_a_disk_does_not_depend_on_how_it_is_kept(seed: int) -> None:
    # Plain chains of one id have one digest key; everything else differs.
    roots = set()
    machine = make({"a": 3 * MIB + 512})
    text_into(machine.disks["a"], random.Random(seed))
    machine.disks["b"] = machine.disks["a"].copy()
    first = machine.back_up()
    machine.disks["a"].write(Span(0, MIB))
    machine.back_up()
    machine.disks["a"] = machine.disks["b"].copy()
    last = machine.back_up(ReadMode.COMPARED)
    with machine.repository.open_chain(first.chain, None) as chain:
        for number in (1, last.number):
            roots |= {disk.root for disk in chain.point(number)[1].disks}
    assert len(roots) == 1
