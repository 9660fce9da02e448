"""Over two movers it is told apart whether the line, what is behind it, or a limit there holds the work up."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.faults import set_hook
from holdfast.formats.magic import Codec
from holdfast.formats.mover.wire import FrameHeader
from holdfast.model.session import Figures
from holdfast.model.spans import Span
from holdfast.mover.grants import Grant
from holdfast.mover.reading import PackedFile
from holdfast.mover.remote_sink import RemoteSink
from holdfast.pipeline.busy import PipeClocks
from holdfast.pipeline.restore import DiskRestore, StoredSource
from holdfast.pipeline.sink import PackedUnit, WritableDisk
from holdfast.pipeline.stages import PipeProgress
from holdfast.planning.bottleneck import Stage, bottleneck, busy_percent
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import CLOCK, MIB, Site
from tests.holdfast.mover.weather import Fault, Weather
from tests.holdfast.pipeline.test_busy import dwell

SIZE = 16 * MIB


class SlowLine(Weather):
    """Lets every frame wait."""

    @override
    def _with_fault(self, fault: Fault | None, header: FrameHeader, whole: bytes) -> bytes:
        self._over.wait(0.02)
        return super()._with_fault(fault, header, whole)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "repository", {"a": SIZE})


def backed_up(site: Site, weather: Callable[..., Weather] = Weather) -> tuple[Figures, list[PipeProgress]]:
    opened, told = site.begin(), list[PipeProgress]()
    access = site.access(opened)
    with site.server() as server, weather(server.address, {}) as line:
        figures = site.copy(RemoteSink.open(site.line(line.address, access), access.grant), site.reader(), told.append)
    site.finish(opened)
    return figures, told


def restored(site: Site, weather: Callable[..., Weather] = Weather, target: MemoryDisk | None = None) -> Figures:
    site.machine.disks["a"].write(Span(0, SIZE))
    site.machine.back_up()
    chain = site.machine.kept[0].summary.chain
    with site.server() as server, weather(server.address, {}) as line:
        source = site.source(line.address, site.reading(chain, 1))
        written = target if target is not None else MemoryDisk(bytes(SIZE))
        figures = DiskRestore(source, written, source.digest_key, CLOCK).run(0, lambda _: None)
        source.close()
    assert bytes(written.content) == bytes(site.reader().content)
    return figures


def test_a_slow_line_is_the_bottleneck_of_a_backup(site: Site) -> None:
    figures, told = backed_up(site, SlowLine)
    assert bottleneck(figures) is Stage.NETWORK
    assert busy_percent(figures)[Stage.NETWORK] > 50
    assert figures.target_s > 0, "the repository tells how long storing took"
    assert all(progress.figures.network_s <= progress.figures.duration_s for progress in told)


def test_a_slow_store_is_no_slow_line(site: Site) -> None:
    set_hook(lambda name: dwell() if name == "pipe.unit_written" else None)
    try:
        figures, _ = backed_up(site)
    finally:
        set_hook(None)
    assert bottleneck(figures) is Stage.TARGET
    assert busy_percent(figures)[Stage.NETWORK] < 50


class LimitedIntake(DiskIntake):
    """Takes units no faster than a limit of the repository says."""

    clocks: PipeClocks

    @override
    def watch(self, busy: PipeClocks) -> None:
        self.clocks = busy
        super().watch(busy)

    @override
    def put(self, unit: PackedUnit) -> None:
        with self.clocks.throttled:
            dwell()
        super().put(unit)


def test_a_limit_of_the_repository_is_told_to_the_proxy(site: Site) -> None:
    plain = site.open_for_writing

    def limited(grant: Grant, lies_at: str, stack: ExitStack) -> WritableDisk:
        disk = plain(grant, lies_at, stack)
        assert isinstance(disk.sink, DiskIntake)
        disk.sink.__class__ = LimitedIntake
        return disk

    site.open_for_writing = limited  # type: ignore[method-assign] # as the test wants it
    figures, _ = backed_up(site)
    assert bottleneck(figures) is Stage.THROTTLING
    assert figures.network_s + figures.throttled_s <= figures.duration_s


def test_a_slow_line_is_the_bottleneck_of_a_restore(site: Site) -> None:
    figures = restored(site, SlowLine)
    assert bottleneck(figures) is Stage.NETWORK
    assert figures.source_s > 0, "the repository tells how long reading took"


class SlowFile(ChainFile):
    """Takes its time to read a unit."""

    @override
    def packed_unit(self, number: int) -> tuple[bytes, Codec, memoryview]:
        dwell()
        dwell()
        return super().packed_unit(number)


def test_slow_files_are_no_slow_line(site: Site) -> None:
    plain = site.open_for_reading

    def slow(grant: Grant, stack: ExitStack) -> tuple[StoredSource, list[PackedFile]]:
        disk, files = plain(grant, stack)
        for file in files:
            assert isinstance(file, ChainFile)
            file.__class__ = SlowFile
        return disk, files

    site.open_for_reading = slow  # type: ignore[method-assign] # as the test wants it
    figures = restored(site)
    assert bottleneck(figures) is Stage.SOURCE
