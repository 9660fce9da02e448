"""Blocks are shared and held where the file system can; elsewhere nothing happens."""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from holdfast.errors import RepositoryFull
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.chains import KeptPoint
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.providers.local.mounts import SHARING, mounted_tmpfs
from tests.holdfast.storage.counting import MIB, CountedFiles, host_machine
from tests.holdfast.storage.methods.test_merging import check, folder_of

Mounted = Callable[[Path], AbstractContextManager[Path]]

BLOCK = 4096
WRITTEN_MAX = 64 * MIB
FULL = "00000001-full.hfc"


def settled_usage(place: Path) -> int:
    """Return the bytes in use once the file system has done what it puts off; btrfs frees space behind a commit."""
    os.sync()
    return shutil.disk_usage(place).used


@pytest.mark.parametrize("mounted", SHARING)
def test_two_files_have_the_same_blocks(tmp_path: Path, mounted: Mounted) -> None:
    with mounted(tmp_path) as place:
        files, data = HostFiles(), os.urandom(8 * BLOCK)
        with_data, other = files.create(place / "a"), files.create(place / "b")
        with_data.write(0, [data])
        with_data.sync()
        assert other.share(2 * BLOCK, with_data, BLOCK, 3 * BLOCK)
        assert not other.share(2 * BLOCK, with_data, BLOCK + 1, BLOCK)
        other.sync()
        assert other.read(2 * BLOCK, 3 * BLOCK) == data[BLOCK : 4 * BLOCK]
        with_data.write(BLOCK, [bytes(BLOCK)])
        assert other.read(2 * BLOCK, BLOCK) == data[BLOCK : 2 * BLOCK]
        with_data.close()
        other.close()


def test_where_blocks_cannot_be_shared_nothing_changes(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 4 * MIB) as place:
        files = HostFiles()
        one, other = files.create(place / "a"), files.create(place / "b")
        one.write(0, [b"x" * BLOCK])
        assert not other.share(0, one, 0, BLOCK)
        assert other.size() == 0
        assert not other.share(0, CrashFiles([Path("/")]).create(Path("/c")), 0, BLOCK)
        one.close()
        other.close()


def test_space_that_is_held_is_nobody_elses(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 4 * MIB) as place:
        files = HostFiles()
        free = files.free_bytes(place)
        handle = files.create(place / "a")
        handle.write(0, [b"x" * BLOCK])
        handle.reserve(BLOCK, 2 * MIB)
        assert (handle.size(), files.free_bytes(place) <= free - 2 * MIB) == (BLOCK, True)
        with pytest.raises(RepositoryFull):
            handle.reserve(BLOCK, 8 * MIB)
        handle.trim()
        assert files.free_bytes(place) >= free - 2 * BLOCK
        handle.close()


@pytest.mark.parametrize("mounted", SHARING)
def test_a_merge_that_shares_writes_tables_only(tmp_path: Path, mounted: Mounted) -> None:
    with mounted(tmp_path) as place:
        machine = host_machine(place / "repository", 100, [96])
        counted = CountedFiles()
        used = settled_usage(place)
        result = ChainUpkeep(counted, folder_of(machine), None).merge(FULL, "00000002-increment.hfc")
        assert result.moved_bytes == result.shared_bytes > 90 * MIB
        assert counted.written_bytes < min(WRITTEN_MAX, result.moved_bytes // 20)
        assert counted.read_bytes < result.moved_bytes // 20
        assert settled_usage(place) < used + MIB
        machine.kept[:] = machine.kept[1:]
        check(machine)


@pytest.mark.parametrize("mounted", SHARING)
def test_a_synthetic_full_and_a_compaction_that_share_write_tables_only(tmp_path: Path, mounted: Mounted) -> None:
    with mounted(tmp_path) as place:
        machine = host_machine(place / "repository", 96, [8])
        counted = CountedFiles()
        machine.repository.files = counted
        summary, result = synthesize(machine.repository, machine.kept[-1].summary.chain, None)
        assert result.moved_bytes == result.shared_bytes > 90 * MIB
        assert counted.written_bytes < result.moved_bytes // 20
        machine.kept[:] = [KeptPoint(summary, machine.kept[-1].disks)]
        check(machine)
        counted.written_bytes = 0
        compacted = compact(counted, folder_of(machine), None)
        assert compacted.moved_bytes == compacted.shared_bytes > 90 * MIB
        assert counted.written_bytes < compacted.moved_bytes // 20
        check(machine)


def test_a_merge_elsewhere_copies_and_says_so(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path, 64 * MIB) as place:
        machine = host_machine(place / "repository", 12, [4])
        result = ChainUpkeep(HostFiles(), folder_of(machine), None).merge(FULL, "00000002-increment.hfc")
        assert (result.moved_bytes > 4 * MIB, result.shared_bytes) == (True, 0)
        machine.kept[:] = machine.kept[1:]
        check(machine)
