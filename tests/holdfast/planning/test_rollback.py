"""When changed spans are believed for a rollback, and which disks cannot be rolled back at all."""

import pytest

from holdfast.model.ids import ChangeId, DiskKey
from holdfast.model.machine import Disk
from holdfast.model.plan import ReadMode
from holdfast.planning.change_trust import LIE
from holdfast.planning.rollback import decide_rollback, unfit_for_rollback

CHANGE = ChangeId("aa/1")
A, B = Disk(key=DiskKey("a"), size_bytes=1 << 20), Disk(key=DiskKey("b"), size_bytes=2 << 20)


@pytest.mark.parametrize(
    "change_id, is_doubted, mode, reason",
    [
        (CHANGE, False, ReadMode.CHANGED, "tracks changes"),
        (None, False, ReadMode.COMPARED, "no change id"),
        (CHANGE, True, ReadMode.COMPARED, LIE),
    ],
)
def test_tracking_is_believed_unless_there_is_a_reason_not_to(
    change_id: ChangeId | None, mode: ReadMode, reason: str, *, is_doubted: bool
) -> None:
    decision = decide_rollback(change_id, is_doubted=is_doubted)
    assert decision.mode is mode
    assert reason in decision.reason


@pytest.mark.parametrize("wanted", [(A, B), (B, A), (B,), ()])
def test_disks_that_the_machine_has_can_be_rolled_back(wanted: tuple[Disk, ...]) -> None:
    assert unfit_for_rollback((A, B), wanted) is None


def test_a_disk_that_is_gone_or_has_another_size_cannot() -> None:
    assert unfit_for_rollback((A,), (A, B)) == "it has no disk b"
    grown = Disk(key=A.key, size_bytes=4 << 20)
    assert unfit_for_rollback((grown, B), (B, A)) == "its disk a has 4194304 bytes and had 1048576 at the point"
