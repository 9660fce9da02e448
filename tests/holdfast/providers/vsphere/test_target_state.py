"""What a restore target is survives being kept as text."""

import msgspec
import pytest

from holdfast.errors import DataDamaged
from holdfast.model.ids import DiskKey, MachineId, TargetId
from holdfast.model.machine import Identifier, Identity
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.target_state import (
    StagedDisk,
    Swap,
    TargetState,
    decode_state,
    decode_swap,
    encode,
    instance_uuid,
    is_target_id,
    replaced_by,
    replacing,
    with_files,
)

DIGITS = TargetId("0123456789abcdef0123456789abcdef")
STAGED = StagedDisk(key=DiskKey("2000"), size_bytes=512, device=DiskKey(""), file="", controller=0, unit=0)
STATE = TargetState(target_id=DIGITS, machine_name="web/é", disks=(STAGED,), replaces=None, is_complete=False)


def test_a_state_comes_back() -> None:
    assert decode_state(encode(STATE), "m") == STATE
    swap = Swap(target_id=DIGITS, old_files=("[ds] a b/c.vmdk",))
    assert decode_swap(encode(swap)) == swap


def test_what_earlier_versions_do_not_know_is_written_only_where_it_matters() -> None:
    assert not {"identity", "notes"} & set(msgspec.json.decode(encode(STATE)))
    kept = msgspec.structs.replace(STATE, identity=Identity(uuid=Identifier.KEEP), notes=("a",))
    assert decode_state(encode(kept), "m") == kept
    assert kept.target.notes == ("a",)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"target_id": 1}', encode(STATE)[:-1]])
def test_a_state_that_cannot_be_read_is_damage_but_a_note_of_others_is_none(text: str) -> None:
    with pytest.raises(DataDamaged, match="machine 'm'"):
        decode_state(text, "m")
    assert decode_swap(text) is None


def test_an_id_leads_to_the_machine_that_is_replaced() -> None:
    machine_id = MachineId("vc:uuid@with:marks")
    target_id = replacing(DIGITS, machine_id)
    assert replaced_by(target_id) == machine_id
    assert is_target_id(target_id)
    assert instance_uuid(target_id) == instance_uuid(DIGITS) == "01234567-89ab-cdef-0123-456789abcdef"
    assert replaced_by(DIGITS) is None


@pytest.mark.parametrize("text", ["", "web", DIGITS[:-1], DIGITS.upper(), f"{DIGITS}@", f" {DIGITS}"])
def test_other_texts_are_no_ids(text: str) -> None:
    assert not is_target_id(text)


def test_a_state_is_complete_once_its_files_are_known() -> None:
    got = DiskFacts(key=DiskKey("2001"), label="", size_bytes=512, file="[ds] x/x-0.vmdk", controller=1000, unit=1)
    state = with_files(STATE, [got])
    assert state.is_complete
    [disk] = state.disks
    assert (disk.key, disk.device, disk.file, disk.controller, disk.unit) == ("2000", "2001", got.file, 1000, 1)
    assert state.disk(DiskKey("2000")) == disk
    assert state.disk(DiskKey("2001")) is None
    assert state.target.disks[0].size_bytes == 512
