"""The repair of a chain; tests/fuzz/test_repair_damage.py damages every kind of byte and crashes everywhere."""

import struct
import zlib
from pathlib import Path

from holdfast.formats.magic import SUPERBLOCK_SIZE
from holdfast.model.health import RepairReport
from holdfast.storage.files.immutable import is_immutable, set_immutable
from holdfast.storage.health.chain_repair import ChainRepair, OtherChain
from holdfast.storage.health.health_file import change_health, with_damage
from tests.fuzz.damage import SmallChain
from tests.holdfast.storage.counting import host_machine


def test_another_chain_of_the_machine_gives_back_what_it_has() -> None:
    small, other = SmallChain(7), SmallChain(7)
    body = next(r for r in small.regions(small.paths[0]) if r.name == "unit body")
    small.flip(small.paths[0], body.start, 1)
    with small.open() as chain:
        file = chain.files[0].contents.file
    change_health(small.files, small.folder, lambda health: with_damage(health, file, {0: "torn"}))
    name = small.repository.relative(small.folder)
    with other.open() as theirs:
        report = ChainRepair(small.repository, name, None, [OtherChain(chain=theirs, is_copy=False)]).run()
    assert report.is_good
    assert (report.repaired_pieces, report.from_chains, report.from_copies) == (4, 4, 0)
    assert small.verify().is_good
    assert ChainRepair(small.repository, name, None).run() == RepairReport(chains=1)


def test_a_chain_of_which_nothing_can_be_opened_is_named() -> None:
    small = SmallChain(7)
    for path in small.paths:
        small.files.set_content(path, b"nothing")
    report = ChainRepair(small.repository, small.repository.relative(small.folder), None).run()
    assert not report.is_good
    assert report.damages[0].point == 0


def everything(small: SmallChain) -> dict[Path, bytes]:
    return {path: small.files.content(path) for path in small.files.paths()}


def test_nothing_is_changed_of_a_chain_with_a_file_of_a_later_version() -> None:
    small = SmallChain(7)
    data = bytearray(small.files.content(small.paths[1]))
    for slot in range(2):
        block = data[slot * SUPERBLOCK_SIZE : (slot + 1) * SUPERBLOCK_SIZE]
        struct.pack_into("<HH", block, 8, 2, 2)
        block[4060:4064] = zlib.crc32(block[:4060]).to_bytes(4, "little")
        data[slot * SUPERBLOCK_SIZE : (slot + 1) * SUPERBLOCK_SIZE] = block
    small.files.set_content(small.paths[1], bytes(data))
    region = next(one for one in small.regions(small.paths[0]) if one.name == "map")
    small.flip(small.paths[0], region.start + 90, 1)
    before = everything(small)
    report = ChainRepair(small.repository, small.repository.relative(small.folder), None).run()
    assert everything(small) == before
    [damage] = report.damages
    assert "this one knows 1" in damage.reason


def test_a_file_of_another_chain_is_left_where_it_is() -> None:
    small, other = SmallChain(7), SmallChain(8)
    small.files.set_content(small.paths[2], other.files.content(other.paths[2]))
    before = everything(small)
    report = ChainRepair(small.repository, small.repository.relative(small.folder), None).run()
    assert everything(small).items() >= before.items()
    assert (report.is_good, report.set_aside, report.rebuilt) == (False, (), ())


def test_files_of_locked_points_are_repaired_and_stay_unchangeable(tmp_path: Path) -> None:
    machine = host_machine(tmp_path / "repository", 8, [2])
    chain = machine.kept[0].summary.chain
    full, increment = (machine.repository.chain_file(chain, kept.summary.file) for kept in machine.kept)
    weak, lost = bytearray(full.read_bytes()), bytearray(increment.read_bytes())
    weak[:SUPERBLOCK_SIZE] = bytes(SUPERBLOCK_SIZE)
    lost[: 2 * SUPERBLOCK_SIZE] = bytes(2 * SUPERBLOCK_SIZE)
    full.write_bytes(weak)
    increment.write_bytes(lost)
    is_kept = [set_immutable(path, wanted=True) == "" for path in (full, increment)]
    try:
        report = ChainRepair(machine.repository, chain, None).run()
        assert [is_immutable(path) for path in (full, increment)] == is_kept
    finally:
        for path in full.parent.iterdir():
            set_immutable(path, wanted=False)
    assert (report.is_good, report.rebuilt) == (True, (f"{chain}/{increment.name}.damaged",))
    assert machine.differences() == []
