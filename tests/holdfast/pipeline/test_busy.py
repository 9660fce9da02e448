"""Each stage counts the time in which it is busy, once, whatever number of threads work in it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.faults import set_hook
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.busy import PipeClocks, StagePool
from holdfast.pipeline.paced_reader import PacedReader
from holdfast.pipeline.restore import DiskRestore
from holdfast.pipeline.rollback import DiskRollback
from holdfast.pipeline.stages import PipeOptions
from holdfast.pipeline.token_bucket import TokenBucket
from holdfast.planning.bottleneck import Stage, bottleneck, busy_percent
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.pipeline.points import QUICK, Scene
from tests.holdfast.pipeline.test_restore import KEY, scattered
from tests.holdfast.pipeline.test_token_bucket import PausedClock

SLOW_S = 0.02
CLOCK = SystemClock()


class SlowDisk(MemoryDisk):
    """Takes its time to read and to write."""

    @override
    def read_into(self, offset: int, buffer: memoryview) -> None:
        dwell()
        super().read_into(offset, buffer)

    @override
    def write(self, offset: int, data: memoryview) -> None:
        dwell()
        super().write(offset, data)


def dwell() -> None:
    threading.Event().wait(SLOW_S)


# -- clocks ----------------------------------------------------------------------------------------------------------


def test_two_threads_in_a_stage_count_once() -> None:
    clock = PausedClock()
    stage = PipeClocks(clock).source
    with ThreadPoolExecutor(1) as pool:
        stage.begin()
        clock.pause(2)
        pool.submit(stage.begin).result()
        clock.pause(3)
        stage.end()
        clock.pause(4)
        assert stage.seconds == 9
        pool.submit(stage.end).result()
    clock.pause(5)
    assert stage.seconds == 9


def test_a_stage_inside_another_one_interrupts_it() -> None:
    clock = PausedClock()
    busy = PipeClocks(clock)
    with busy.source:
        clock.pause(1)
        with busy.throttled:
            clock.pause(20)
            with busy.proxy:
                clock.pause(300)
        clock.pause(4)
    clock.pause(5000)
    assert [stage.seconds for stage in (busy.source, busy.throttled, busy.proxy)] == [5, 20, 300]


def test_what_the_other_side_tells_is_added_and_replaced() -> None:
    clock = PausedClock()
    stage = PipeClocks(clock).target
    stage.tell(4)
    stage.tell(7)
    with stage:
        clock.pause(1)
    assert stage.seconds == 8


def test_an_error_leaves_the_stage() -> None:
    clock = PausedClock()
    busy = PipeClocks(clock)
    with pytest.raises(ValueError, match="bad"), busy.source, busy.target:
        raise ValueError("bad")
    clock.pause(1)
    assert busy.source.seconds == busy.target.seconds == 0


def test_a_pool_works_inside_its_stage() -> None:
    clock = PausedClock()
    busy = PipeClocks(clock)
    with StagePool(1, "work", busy.proxy) as pool:
        assert pool.submit(clock.pause, 3).result() is None
    assert busy.proxy.seconds == 3


def test_without_a_line_nobody_waits_for_one() -> None:
    clock = PausedClock()
    busy = PipeClocks(clock)
    with busy.network:
        clock.pause(5)
    with busy.target:
        clock.pause(7)
    figures = Figures(duration_s=6.0)
    assert busy.charged(figures, []) == Figures(duration_s=6.0, target_s=6.0)
    busy.has_line = True
    assert busy.charged(figures, [4.0]) == Figures(duration_s=6.0, target_s=6.0, network_s=2.0)


# -- pipes -----------------------------------------------------------------------------------------------------------


def copied(reader: MemoryDisk | PacedReader, pipe: PipeOptions = QUICK) -> Figures:
    scene = Scene(pieces=256, pipe=pipe)
    size = 256 * PIECE_SIZE
    with scene.writer() as writer:
        sink = DiskIntake(open_disk(writer, scene.opened.number, "a", None), CLOCK, pipe)
        copy = DiskCopy(reader, sink, CLOCK, pipe)
        if isinstance(reader, PacedReader):
            reader.waiting = copy.busy.throttled
        return copy.run(whole_disk_steps([Span(0, size)], size, PIECE_SIZE), lambda _: None)


def content() -> bytes:
    return bytes(Scene(pieces=256).reader.content)


def test_a_slow_disk_makes_the_source_the_bottleneck() -> None:
    figures = copied(SlowDisk(content()))
    assert bottleneck(figures) is Stage.SOURCE
    assert busy_percent(figures)[Stage.SOURCE] > 50
    assert figures.source_s <= figures.duration_s


def test_a_slow_store_makes_the_target_the_bottleneck() -> None:
    set_hook(lambda name: dwell() if name == "pipe.unit_written" else None)
    try:
        figures = copied(MemoryDisk(content()))
    finally:
        set_hook(None)
    assert bottleneck(figures) is Stage.TARGET
    assert busy_percent(figures)[Stage.TARGET] > 50


def test_slow_commits_are_the_targets_too() -> None:
    set_hook(lambda name: dwell() if name == "commit.before_sync" else None)
    try:
        figures = copied(MemoryDisk(content()), PipeOptions(commit_new_bytes=1, uncommitted_bytes_max=1))
    finally:
        set_hook(None)
    assert bottleneck(figures) is Stage.TARGET


def test_a_limit_on_reading_makes_throttling_the_bottleneck() -> None:
    size = 256 * PIECE_SIZE
    paced = PacedReader(MemoryDisk(content()), TokenBucket(CLOCK, size * 2), lambda _: None, lambda: None)
    figures = copied(paced)
    assert bottleneck(figures) is Stage.THROTTLING
    assert figures.source_s < figures.throttled_s <= figures.duration_s


def test_a_restore_is_held_up_by_what_it_is_written_to() -> None:
    source, stored = scattered(7, pieces=400)
    target = SlowDisk(bytes(len(stored)))
    figures = DiskRestore(source, target, KEY, CLOCK).run(0, lambda _: None)
    assert bottleneck(figures) is Stage.TARGET
    assert 0 < figures.proxy_s <= figures.duration_s
    assert figures.network_s == 0


def test_a_rollback_that_compares_reads_its_target() -> None:
    source, stored = scattered(8, pieces=400, cut=0)
    target = SlowDisk(stored)
    rolled = DiskRollback(source, target, KEY, CLOCK).write_differing(0, lambda _: None)
    assert rolled.written_bytes == 0
    assert bottleneck(rolled.figures) is Stage.TARGET
    assert 0 < rolled.figures.proxy_s < rolled.figures.target_s <= rolled.figures.duration_s
