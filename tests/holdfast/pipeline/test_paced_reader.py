"""A paced reader is its reader, only slower, and says how long it waited."""

from pathlib import Path

import pytest

from holdfast.errors import OperationInterrupted
from holdfast.model.plan import Transport, TransportMode
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.disks import DiskReader
from holdfast.pipeline.paced_reader import PacedReader
from holdfast.pipeline.stages import StageTimes
from holdfast.pipeline.token_bucket import TokenBucket
from holdfast.providers.raw_disks import FrozenDisk
from tests.holdfast.pipeline.test_token_bucket import PausedClock

SIZE = 64 * 1024
CONTENT = bytes(range(256)) * (SIZE // 256)


@pytest.fixture
def disk(tmp_path: Path) -> FrozenDisk:
    file = tmp_path / "disk"
    file.write_bytes(CONTENT)
    return FrozenDisk(file, Transport(mode=TransportMode.DIRECT, reason="a file"))


def paced(disk: FrozenDisk, rate: float | None, seen: list[int] | None = None) -> PacedReader:
    clock = PausedClock()
    looks = seen if seen is not None else []
    return PacedReader(disk, TokenBucket(clock, rate, pause=clock.pause), looks.append, lambda: None)


def as_disk_reader(reader: PacedReader) -> DiskReader:
    """Let the type checker compare the port that goes in with the one that comes out."""
    return reader


def test_it_reads_what_its_disk_holds(disk: FrozenDisk) -> None:
    with as_disk_reader(paced(disk, None)) as reader:
        buffer = bytearray(1000)
        reader.read_into(500, memoryview(buffer))
        assert (reader.size_bytes, bytes(buffer)) == (SIZE, CONTENT[500:1500])
        assert sum(span.length for span in reader.allocated_spans()) == SIZE


def test_closing_it_closes_the_disk(disk: FrozenDisk) -> None:
    reader = paced(disk, None)
    reader.close()
    with pytest.raises(Exception, match="closed"):
        disk.read_into(0, memoryview(bytearray(512)))


def test_whoever_sets_the_rate_is_told_before_each_read_what_was_read(disk: FrozenDisk) -> None:
    seen: list[int] = []
    reader = paced(disk, None, seen)
    for offset in (0, 512, 1024):
        reader.read_into(offset, memoryview(bytearray(512)))
    assert seen == [0, 512, 1024]


def test_waits_are_no_time_of_the_source(disk: FrozenDisk) -> None:
    reader = paced(disk, 1000.0)
    for _ in range(3):
        reader.read_into(0, memoryview(bytearray(1000)))
    assert reader.throttled_s == pytest.approx(2.0)
    charged = reader.charged(StageTimes(source_s=2.5, target_s=4.0))
    assert (charged.source_s, charged.throttled_s, charged.target_s) == pytest.approx((0.5, 2.0, 4.0))
    assert reader.charged(StageTimes(source_s=1.5), before_s=1.5).source_s == pytest.approx(1.0)
    assert reader.charged(StageTimes(source_s=1.5)).source_s == 0.0


def test_the_clock_of_waits_runs_while_a_read_waits(disk: FrozenDisk) -> None:
    clock = PausedClock()
    busy = PipeClocks(clock)
    reader = PacedReader(disk, TokenBucket(clock, 1000.0, pause=clock.pause), lambda _: None, lambda: None)
    reader.waiting = busy.throttled
    for _ in range(3):
        reader.read_into(0, memoryview(bytearray(1000)))
    assert busy.throttled.seconds == pytest.approx(reader.throttled_s) == pytest.approx(2.0)


def test_a_wait_that_shall_end_reads_nothing(disk: FrozenDisk) -> None:
    clock = PausedClock()

    def stop() -> None:
        raise OperationInterrupted("the worker goes down")

    reader = PacedReader(disk, TokenBucket(clock, 10.0, pause=clock.pause), lambda _: None, stop)
    buffer = bytearray(100)
    reader.read_into(0, memoryview(bytearray(100)))
    with pytest.raises(OperationInterrupted):
        reader.read_into(100, memoryview(buffer))
    assert bytes(buffer) == bytes(100)
    assert reader.throttled_s == 0.0
