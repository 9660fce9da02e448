"""A sweep removes what the dead left and leaves the living alone."""

import fcntl
import os
from pathlib import Path

import pytest

from holdfast.errors import SourceError
from holdfast.model.spans import Span
from holdfast.providers.local.hypervisor import LocalProvider
from holdfast.testing.provider_bench import Subject
from tests.holdfast.providers.local.bench import LocalBench

MIB = 1 << 20


def leave(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "disk-0.raw").write_bytes(b"x")
    return path


def test_nothing_is_swept_where_nothing_was_left(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    subject.write(Span(0, 4096))
    snapshot = subject.snapshot("tag")
    target = bench.provider.prepare_target("token", subject.machine, [], subject.machine_id)
    assert bench.provider.sweep() == []
    assert bench.provider.snapshots(subject.machine_id) == [snapshot]
    assert bench.provider.targets() == [target]


def test_what_the_dead_left_is_removed(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    subject.snapshot("tag")
    left = [
        leave(bench.root / "machines" / ".making-new"),
        leave(bench.root / "targets" / ".making-1"),
        leave(bench.root / "targets" / ".removing-2"),
        leave(bench.root / "snapshots" / subject.machine_id / ".making-3"),
        leave(bench.root / "snapshots" / subject.machine_id / ".removing-4"),
    ]
    files = [
        bench.root / "tracking" / subject.machine_id / ".1.map.new",
        bench.root / "commits" / f".{subject.machine_id}.json.new",
        bench.record(subject.machine_id).folder / ".machine.json.new",
    ]
    for file in files:
        file.touch()
    assert sorted(bench.provider.sweep()) == sorted(f"removed {p}" for p in [*left, *files])
    assert bench.leftovers() == []
    assert len(bench.provider.snapshots(subject.machine_id)) == 1


def test_what_the_living_work_on_is_left_alone(bench: LocalBench) -> None:
    subject = Subject(bench, "web", MIB)
    making = leave(bench.root / "snapshots" / subject.machine_id / ".making-1")
    lock = os.open(bench.root / "locks" / f"{subject.machine_id}.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert bench.provider.sweep() == []
        assert making.exists()
        impatient = LocalProvider(bench.root, bench.clock, lock_wait_s=0)
        with pytest.raises(SourceError, match="busy"):
            impatient.create_snapshot(subject.machine_id, "tag")
    finally:
        os.close(lock)
    assert bench.provider.sweep() == [f"removed {making}"]
