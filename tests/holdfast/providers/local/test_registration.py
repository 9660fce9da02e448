"""Existing disks are registered in place or copied in."""

from pathlib import Path

import pytest

from holdfast.errors import HoldfastError, LimitExceeded, RequestInvalid, TargetExists
from holdfast.model.ids import DiskKey
from holdfast.model.machine import PowerState
from holdfast.model.spans import Span
from holdfast.testing.disks import PatternedDisk
from holdfast.testing.provider_bench import assert_same
from tests.holdfast.providers.local.bench import LocalBench

MIB = 1 << 20


@pytest.fixture
def content(seed: int) -> PatternedDisk:
    return PatternedDisk(seed % 2**32, 4 * MIB)


@pytest.fixture
def disk(tmp_path: Path, content: PatternedDisk) -> Path:
    path = tmp_path / "existing.raw"
    with path.open("xb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(content.write(Span(MIB, MIB)))
    return path


def test_a_disk_can_be_used_where_it_is(bench: LocalBench, disk: Path, content: PatternedDisk) -> None:
    made = bench.provider.add_machine("web", {DiskKey("a"): disk}, PowerState.ON)
    assert bench.provider.machine("web") == made
    assert made.power is PowerState.ON
    assert bench.path(made.machine_id, DiskKey("a")) == disk
    assert_same(content, bench.read_live(made.machine_id, DiskKey("a")), "adopted disk")


def test_a_disk_can_be_copied_in(bench: LocalBench, disk: Path, content: PatternedDisk) -> None:
    made = bench.provider.add_machine("web", {DiskKey("a"): disk}, copy=True)
    disk.unlink()
    assert made.power is PowerState.OFF
    assert_same(content, bench.read_live(made.machine_id, DiskKey("a")), "copied disk")
    copied = bench.path(made.machine_id, DiskKey("a"))
    assert copied.is_relative_to(bench.root)
    assert copied.stat().st_blocks * 512 < 2 * MIB


def test_a_machine_may_have_no_disks(bench: LocalBench) -> None:
    assert bench.provider.add_machine("web", {}).disks == ()


def test_a_taken_name_is_refused(bench: LocalBench, disk: Path) -> None:
    bench.provider.add_machine("web", {DiskKey("a"): disk})
    with pytest.raises(TargetExists, match="'web'"):
        bench.provider.add_machine("web", {DiskKey("a"): disk})


def test_a_damaged_machine_file_does_not_stand_in_the_way(bench: LocalBench) -> None:
    (bench.root / "machines" / "damaged").mkdir()
    assert bench.provider.add_machine("web", {}).name == "web"


def test_too_many_disks_are_refused(bench: LocalBench, disk: Path) -> None:
    with pytest.raises(LimitExceeded):
        bench.provider.add_machine("web", {DiskKey(str(n)): disk for n in range(257)})


@pytest.mark.parametrize("copy", [True, False])
def test_a_refused_machine_leaves_nothing(bench: LocalBench, disk: Path, *, copy: bool) -> None:
    odd = disk.with_name("odd.raw")
    odd.write_bytes(b"x" * 513)
    for second in (odd, disk.with_name("missing.raw")):
        with pytest.raises(HoldfastError, match=rf"{second.name}|disk-1\.raw"):
            bench.provider.add_machine("web", {DiskKey("a"): disk, DiskKey("b"): second}, copy=copy)
    with pytest.raises(RequestInvalid, match="empty key"):
        bench.provider.add_machine("web", {DiskKey(""): disk}, copy=copy)
    assert list((bench.root / "machines").iterdir()) == []
