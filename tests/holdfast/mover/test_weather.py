"""Whatever the line does, the same bytes arrive, and what is sent again is what was lost."""

import random
from pathlib import Path

import msgspec
import pytest

from holdfast.formats.mover.events import Counters
from holdfast.model.spans import Span
from holdfast.mover.carrier import Carrier
from holdfast.mover.remote_sink import RemoteSink
from holdfast.pipeline.restore import DiskRestore
from holdfast.pipeline.stages import PipeProgress
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import CLOCK, MIB, Site
from tests.holdfast.mover.weather import Fault, Harm, Script, Spot, Weather, random_script

STREAMS = 3
HARMLESS = [Fault.TWICE, Fault.SWAP, Fault.LATE]


def back_up(folder: Path, script: Script, *, streams: int = STREAMS, refuses: int = 0) -> tuple[Counters, Harm]:
    """Bring a disk over in this weather and compare every byte; return what the source's link and the weather did."""
    site = Site(folder, {"a": 8 * MIB})
    site.setting.link = msgspec.structs.replace(site.setting.link, streams=streams)
    opened = site.begin()
    access = site.access(opened)
    with site.server() as server, Weather(server.address, script, refuses) as weather:
        line = site.line(weather.address, access)
        site.copy(RemoteSink.open(line, access.grant), site.reader())
    site.finish(opened)
    return line.counters, weather.harm


def test_in_good_weather_nothing_is_sent_twice(tmp_path: Path) -> None:
    counters, _ = back_up(tmp_path / "repository", {})
    assert (counters.resent_frames, counters.connections_lost) == (0, counters.connections_made)


def test_what_is_sent_again_is_exactly_what_was_damaged(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    flips = {Spot(rng.randrange(STREAMS), 0, rng.randrange(2, 40)): Fault.FLIP for _ in range(30)}
    counters, harm = back_up(tmp_path / "repository", flips)
    assert (counters.resent_frames, counters.resent_bytes) == (harm.flipped_frames, harm.flipped_bytes)
    assert counters.nacks_received == harm.flipped_frames


def test_frames_that_come_twice_late_or_out_of_order_cost_nothing(tmp_path: Path, seed: int) -> None:
    script = random_script(random.Random(seed), STREAMS, 20, HARMLESS)
    counters, _ = back_up(tmp_path / "repository", script)
    assert counters.resent_frames == 0


@pytest.mark.parametrize("run", range(6))
def test_the_same_bytes_arrive_after_any_script(tmp_path: Path, seed: int, run: int) -> None:
    rng = random.Random(seed)
    kinds = [Fault.CUT, Fault.FLIP, Fault.FLIP_HEADER, *HARMLESS, *([Fault.STALL] if run == 0 else [])]
    counters, harm = back_up(
        tmp_path / "repository", random_script(rng, 3 * STREAMS, 12, kinds), refuses=rng.randrange(3)
    )
    assert counters.resent_bytes <= harm.flipped_bytes + harm.broken * (Carrier.OUTPUT_MAX + 4 * MIB)


def test_a_stall_of_one_connection_of_five_ends_with_that_connection(tmp_path: Path) -> None:
    started_s = CLOCK.monotonic_s()
    script = {Spot(2, side, 3): Fault.STALL for side in (0, 1)}
    counters, _ = back_up(tmp_path / "repository", script, streams=5)
    assert CLOCK.monotonic_s() - started_s < 8
    assert counters.resent_bytes <= Carrier.OUTPUT_MAX + 4 * MIB


def test_everything_dropped_again_and_again_holds_the_work_up_and_no_more(tmp_path: Path) -> None:
    site = Site(tmp_path / "repository", {"a": 16 * MIB})
    opened = site.begin()
    access = site.access(opened)
    dropped_at: list[int] = []
    with site.server() as server, Weather(server.address, {}) as weather:

        def drop(progress: PipeProgress) -> None:
            reached = progress.reached_bytes
            if reached >= 3 * MIB * (len(dropped_at) + 1):
                dropped_at.append(reached)
                weather.drop_everything()

        line = site.line(weather.address, access)
        site.copy(RemoteSink.open(line, access.grant), site.reader(), drop)
    site.finish(opened)
    assert len(dropped_at) == 5
    assert line.counters.connections_made > 2


def test_a_restore_survives_the_weather(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    site = Site(tmp_path / "repository", {"a": 8 * MIB})
    site.machine.disks["a"].write(Span(0, 8 * MIB))
    site.machine.back_up()
    script = random_script(rng, 6, 10, [Fault.CUT, Fault.FLIP, Fault.FLIP_HEADER, *HARMLESS])
    with site.server() as server, Weather(server.address, script) as weather:
        source = site.source(weather.address, site.reading(site.machine.kept[0].summary.chain, 1))
        target = MemoryDisk(bytes(source.size_bytes))
        DiskRestore(source, target, source.digest_key, CLOCK).run(0, lambda _: None)
        source.close()
    assert bytes(target.content) == bytes(site.reader().content)
