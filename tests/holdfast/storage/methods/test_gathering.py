"""What a point needs is found and moved, no more; sharing blocks leads to the same files as copying them."""

from pathlib import Path

import pytest

from holdfast.errors import DataDamaged
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.spans import Span
from holdfast.storage.chains.chain import Chain
from holdfast.storage.methods.gathering import Needs
from holdfast.storage.methods.merging import SHARED_SHARE
from holdfast.storage.methods.synthesis import synthesize
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.conftest import make_machine
from tests.holdfast.storage.methods.test_merging import folder_of
from tests.holdfast.storage.methods.test_merging_resumed import Stopped, damage, stop_behind
from tests.holdfast.storage.methods.test_synthesis import UNIT, chain_of, check, make_full, protected


def test_units_that_other_points_need_do_not_move() -> None:
    machine = make_machine({"a": 16, "b": 4})
    machine.back_up()
    machine.disks["a"].write(Span(0, 8 * PIECE_SIZE))
    del machine.disks["b"]
    machine.back_up()
    machine.disks["a"].zero(Span(12 * PIECE_SIZE, 4 * PIECE_SIZE))
    machine.back_up()
    with Chain.open(machine.repository.files, folder_of(machine)) as chain:
        needs = Needs(chain, 3)
        assert [(file.path.name[:8], number) for file, number in needs.order()] == [
            ("00000001", 2),
            ("00000002", 0),
            ("00000002", 1),
        ]
        assert needs.stored_bytes() == 3 * (4 * PIECE_SIZE + 4096)
        assert needs.room() > needs.stored_bytes()
        assert [name for name, _ in needs.moving().sources or ()] == [file.contents.file for file in chain.files]


def test_shared_blocks_and_copied_ones_make_the_same() -> None:
    files = CrashFiles([Path("/")])
    files.can_share = True
    machine = protected(files, "secret")
    result = make_full(machine)
    assert result.shared_bytes == result.moved_bytes > 0
    assert files.shared >= result.moved_bytes
    check(machine)


@pytest.mark.parametrize("moved_before", [0, 2 * UNIT])
def test_a_unit_that_is_known_to_be_damaged_is_not_shared_unread(moved_before: int) -> None:
    files = CrashFiles([Path("/")])
    files.can_share = True
    machine = protected(files)
    chain = chain_of(machine)
    if moved_before:  # among it the unit that is found damaged later
        with pytest.raises(Stopped):
            synthesize(machine.repository, chain, None, stop_behind(moved_before), UNIT // SHARED_SHARE)
    with Chain.open(files, folder_of(machine)) as opened:
        source, number = next(Needs(opened, 4).order())
    damage(machine, source.path.name, number)
    for _ in range(2):
        with pytest.raises(DataDamaged, match=f"unit {number} of "):
            make_full(machine)


def test_everything_of_a_disk_of_zeros_is_nothing() -> None:
    machine = make_machine({"a": 4})
    machine.back_up()
    machine.disks["a"].zero(Span(0, 4 * PIECE_SIZE))
    machine.back_up()
    assert make_full(machine).units == 0
    check(machine)
