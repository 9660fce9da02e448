"""The demonstration's disks hold real file systems, before and after a guest wrote to them."""

from pathlib import Path

import pytest

from holdfast.testing.images import MIB, FileSystem
from workers.demo.disks import DemoScale, change_disks, make_disks, problems_of, sha256_of

TINY = DemoScale(
    system_bytes=4 * MIB,
    upload_bytes=2 * MIB,
    records_bytes=8 * MIB,
    kill_at_bytes=MIB,
    disk_sizes=(32 * MIB, 8 * MIB, 320 * MIB),
)


@pytest.mark.tools("mke2fs", "debugfs", "e2fsck")
def test_disks_are_sound_and_change_as_a_guest_changes_them(tmp_path: Path) -> None:
    disks = make_disks(tmp_path, TINY)
    assert [(disk.machine, disk.label) for disk in disks] == [("web01", "system"), ("web01", "swap"), ("db01", "data")]
    assert [disk.path.stat().st_size for disk in disks] == [disk.size_bytes for disk in disks]
    before = {disk.label: sha256_of(disk.path) for disk in disks}
    assert change_disks(disks, 1, TINY) >= 2 * MIB
    changed = {disk.label for disk in disks if sha256_of(disk.path) != before[disk.label]}
    assert changed == {d.label for d in disks if d.file_system in {FileSystem.EXT4, FileSystem.NTFS}} - {"swap"}
    assert [problems_of(disk, disk.path) for disk in disks] == ["", "", ""]


@pytest.mark.tools("mke2fs", "debugfs", "e2fsck")
def test_a_damaged_file_system_is_complained_of(tmp_path: Path) -> None:
    disk = make_disks(tmp_path, TINY)[0]
    with disk.path.open("r+b") as file:
        file.seek(1024)
        file.write(bytes(8192))
    assert problems_of(disk, disk.path)
