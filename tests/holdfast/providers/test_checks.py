"""Requests that no provider can fulfil are refused by all in the same words."""

import pytest

from holdfast.errors import LimitExceeded, RequestInvalid
from holdfast.model.ids import DiskKey, TargetId
from holdfast.model.machine import DISK_SIZE_MAX, DISKS_PER_MACHINE_MAX, Disk, RestoreTarget
from holdfast.providers.checks import check_disks, check_keys, checked_size, target_id_of


def target(*sizes: int) -> RestoreTarget:
    disks = tuple(Disk(key=DiskKey(f"{index}"), size_bytes=size) for index, size in enumerate(sizes))
    return RestoreTarget(target_id=TargetId("t"), machine_name="web", disks=disks, replaces=None)


def test_sizes_are_limited() -> None:
    assert checked_size(DISK_SIZE_MAX, "disk", RequestInvalid) == DISK_SIZE_MAX
    with pytest.raises(LimitExceeded, match="disk x has"):
        checked_size(DISK_SIZE_MAX + 512, "disk x", RequestInvalid)


@pytest.mark.parametrize("size", [0, -512, 511, 513])
def test_a_size_that_is_no_multiple_of_a_sector_is_refused(size: int) -> None:
    with pytest.raises(RequestInvalid, match="disk '1' of target t for machine 'web'"):
        check_disks(target(512, size))


def test_a_machine_has_no_more_than_the_most_disks() -> None:
    check_disks(target(*[512] * DISKS_PER_MACHINE_MAX))
    with pytest.raises(LimitExceeded):
        check_disks(target(*[512] * (DISKS_PER_MACHINE_MAX + 1)))


@pytest.mark.parametrize("keys", [["a", "b", "a"], ["a", ""]])
def test_keys_are_different_and_not_empty(keys: list[DiskKey]) -> None:
    with pytest.raises(RequestInvalid):
        check_keys(keys, "machine", RequestInvalid)


def test_a_token_names_one_target() -> None:
    assert target_id_of("a") == target_id_of("a") != target_id_of("b")
    with pytest.raises(RequestInvalid):
        target_id_of("")
