"""Restore targets of the local provider, beyond what every provider must do."""

import errno
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.errors import (
    DiskWriteFailed,
    LimitExceeded,
    RequestInvalid,
    SourceError,
)
from holdfast.faults import set_hook
from holdfast.model.ids import DiskKey, MachineId, TargetId
from holdfast.model.machine import Disk, Machine, PowerState, RestoreTarget
from holdfast.providers.checks import target_id_of
from holdfast.providers.local import targets
from holdfast.providers.local.targets import RECORD_KEPT_DAYS
from tests.holdfast.providers.local.bench import LocalBench
from tests.holdfast.providers.local.mounts import mounted_tmpfs

MIB = 1 << 20
DISKS = (Disk(key=DiskKey("a"), size_bytes=MIB), Disk(key=DiskKey("b/../c"), size_bytes=MIB))


def prepare(bench: LocalBench, disks: Sequence[Disk] = DISKS, request: str = "t") -> RestoreTarget:
    machine = Machine(
        machine_id=MachineId("old"),
        name="new",
        power=PowerState.ON,
        disks=DISKS,
        configuration={"cpus": "4"},
    )
    return bench.provider.prepare_target(request, machine, disks, None)


def test_a_target_takes_space_only_for_what_is_written(bench: LocalBench) -> None:
    target = prepare(bench, [Disk(key=DiskKey("a"), size_bytes=1 << 40)])
    file = bench.root / "targets" / target.target_id / "machine" / "disk-0.raw"
    assert file.stat().st_size == 1 << 40
    assert file.stat().st_blocks == 0


def test_the_new_machine_gets_the_captured_configuration(bench: LocalBench) -> None:
    made = bench.provider.commit_target(prepare(bench).target_id)
    assert made.configuration == {"cpus": "4"}
    assert made.machine_id != "old"


def test_a_failed_preparation_leaves_nothing(bench: LocalBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(targets, "_make_sparse", fail)
    with pytest.raises(DiskWriteFailed, match=r"preparing target .* failed: File too large"):
        prepare(bench)
    assert bench.leftovers() == []
    assert bench.provider.targets() == []


def test_more_than_the_limits_is_refused(bench: LocalBench) -> None:
    with pytest.raises(LimitExceeded):
        prepare(bench, [Disk(key=DiskKey("a"), size_bytes=(64 << 40) + 512)])
    with pytest.raises(LimitExceeded):
        prepare(bench, [Disk(key=DiskKey(str(n)), size_bytes=MIB) for n in range(257)])


def test_an_empty_token_is_refused(bench: LocalBench) -> None:
    with pytest.raises(RequestInvalid, match="token"):
        prepare(bench, request="")


def test_ids_are_never_taken_for_paths(bench: LocalBench) -> None:
    prepare(bench)
    for target_id in ("..", "../machines", "", target_id_of("t") + "/machine"):
        bench.provider.abandon_target(TargetId(target_id))
        with pytest.raises(RequestInvalid, match="no restore target"):
            bench.provider.commit_target(TargetId(target_id))
    assert len(bench.provider.targets()) == 1


def test_a_committed_target_takes_no_more_writes(bench: LocalBench) -> None:
    target = prepare(bench)
    bench.provider.commit_target(target.target_id)
    assert prepare(bench) == target
    with pytest.raises(RequestInvalid, match="committed already"):
        bench.provider.open_target(target.target_id, DiskKey("a"))


@pytest.mark.tools("mount")
def test_a_full_folder_fails_the_write(tmp_path: Path, seed: int) -> None:
    with mounted_tmpfs(tmp_path, 2 * MIB) as place:
        bench = LocalBench(place / "provider", seed % 2**32)
        target = prepare(bench, [Disk(key=DiskKey("a"), size_bytes=8 * MIB)])
        with (
            bench.provider.open_target(target.target_id, DiskKey("a")) as disk,
            pytest.raises(DiskWriteFailed, match="No space left"),
        ):
            disk.write(0, memoryview(b"x" * 4 * MIB))
        bench.provider.abandon_target(target.target_id)
        assert bench.leftovers() == []


def test_a_damaged_target_file_is_named(bench: LocalBench) -> None:
    target = prepare(bench)
    (bench.root / "targets" / target.target_id / "target.json").write_text("{}")
    with pytest.raises(DiskWriteFailed, match=r"target\.json cannot be read"):
        bench.provider.commit_target(target.target_id)


def test_a_lost_disk_fails_the_commit_and_makes_no_machine(bench: LocalBench) -> None:
    target = prepare(bench)
    (bench.root / "targets" / target.target_id / "machine" / "disk-1.raw").unlink()
    with pytest.raises(DiskWriteFailed, match=r"disk-1\.raw"):
        bench.provider.commit_target(target.target_id)
    assert list(bench.provider.machines()) == []


def test_the_record_of_a_commit_is_kept_for_a_while(bench: LocalBench) -> None:
    target = prepare(bench)
    bench.provider.commit_target(target.target_id)
    bench.clock.advance(timedelta(days=RECORD_KEPT_DAYS))
    assert bench.provider.sweep() == []
    bench.clock.advance(timedelta(seconds=1))
    assert bench.provider.sweep() == [f"removed {bench.root / 'targets' / target.target_id}"]
    with pytest.raises(RequestInvalid):
        bench.provider.commit_target(target.target_id)
    assert [machine.name for machine in bench.provider.machines()] == ["new"]


def test_while_a_machine_is_copied_only_that_machine_is_busy(bench: LocalBench) -> None:
    machine = bench.make_machine("web", [MIB])
    key = machine.disks[0].key
    seen = []

    def meanwhile(point: str) -> None:
        if point != "local.copied_in_place":
            return
        seen.append(prepare(bench, request="another"))
        with pytest.raises(SourceError, match="busy with another operation"):
            bench.provider.set_power(machine.machine_id, PowerState.ON)
        assert bench.provider.sweep() == []

    set_hook(meanwhile)
    try:
        made = bench.provider.prepare_in_place("t", machine.machine_id, machine.disks)
    finally:
        set_hook(None)
    assert sorted(bench.provider.targets(), key=lambda one: one.is_in_place) == [*seen, made]
    with bench.provider.open_target(made.target_id, key) as disk:
        assert disk.size_bytes == MIB
    assert bench.leftovers() == []


def test_a_token_that_came_to_stand_for_another_request_meanwhile_is_refused(bench: LocalBench) -> None:
    machine = bench.make_machine("web", [MIB])

    def meanwhile(point: str) -> None:
        if point == "local.copied_in_place":
            prepare(bench)

    set_hook(meanwhile)
    try:
        with pytest.raises(RequestInvalid, match="another request by the same token"):
            bench.provider.prepare_in_place("t", machine.machine_id, machine.disks)
    finally:
        set_hook(None)
    assert [target.is_in_place for target in bench.provider.targets()] == [False]
    assert bench.leftovers() == []
