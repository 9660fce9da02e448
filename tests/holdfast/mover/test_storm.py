"""Every fault of the line, at every kind of work: the same bytes arrive, little is sent twice, nothing is left."""

import ctypes
import gc
import random
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from holdfast.mover.sockets import Address
from tests.holdfast.mover.bench import STREAMS, WINDOW, Bench, Work, nothing
from tests.holdfast.mover.movers import CLOCK, MIB, Authority, Setting
from tests.holdfast.mover.storm import Blow, Hit, Storm, random_hit
from tests.holdfast.mover.weather import END, Fault, Script, Spot, Weather, random_script

SILENT = {Blow.STALL, Blow.FREEZE, Blow.FREEZE_ALL}
"""Blows that only time tells of."""
GROWTH_MAX = 64 * MIB
FRAMES = {
    "twice": dict.fromkeys((Spot(at % 2, side, at // 2) for at in range(40) for side in (0, 1)), Fault.TWICE),
    "swapped": dict.fromkeys((Spot(at % 2, side, at // 2) for at in range(40) for side in (0, 1)), Fault.SWAP),
    "late on one": {Spot(0, 0, 2): Fault.LATE, Spot(0, 1, 2): Fault.LATE},
    "flipped": dict.fromkeys((Spot(at % 2, 0, at // 2) for at in range(40)), Fault.FLIP),
    "header": {Spot(0, 0, 3): Fault.FLIP_HEADER, Spot(1, 1, 2): Fault.FLIP_HEADER},
    "one end cut": {Spot(0, side, END): Fault.CUT for side in (0, 1)},
    "all ends cut": {Spot(number, side, END): Fault.CUT for number in range(4) for side in (0, 1)},
    "ends stalled": {Spot(0, side, END): Fault.STALL for side in (0, 1)},
}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.mover.sockets.GREETING_S", 1.0)
    monkeypatch.setattr("holdfast.mover.line._IDLE_S", 0.1)
    monkeypatch.setattr("holdfast.mover.line._LAST_WORDS_S", 1.0)


@contextmanager
def made_bench(folder: Path, seed: int, transport: str) -> Iterator[Bench]:
    """Make a bench, and see that this process holds no more memory after its work than after its first work."""
    setting = Setting()
    if transport == "tls":
        authority = Authority(folder)
        setting.server_tls = authority.identity("repository").context(ssl.PROTOCOL_TLS_SERVER)
        setting.client_tls = authority.identity("proxy").context(ssl.PROTOCOL_TLS_CLIENT)
    with Bench(folder / "repository", random.Random(seed), setting) as made:
        made.run(Work.FULL, nothing)
        everything_arrived_once(made, breaks=0)
        before = memory()
        yield made
        assert memory() < before + GROWTH_MAX


def memory() -> int:
    """Return the bytes that this process has in memory, without what is free and kept for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def everything_arrived_once(bench: Bench, *, breaks: int, copies: int = 0, flipped: int = 0) -> None:
    """Nothing that had arrived was sent again, and no more than the windows of the connections that broke."""
    near, far = bench.counters
    assert near.duplicates + far.duplicates <= copies
    lost = max(breaks, near.connections_lost - STREAMS, far.connections_lost - STREAMS)
    assert near.resent_bytes + far.resent_bytes <= lost * WINDOW + flipped


def blown_through(bench: Bench, work: Work, hits: Sequence[Hit]) -> bool:
    """Do it in this storm; return whether anything came about."""
    storms: list[Storm] = []

    def through(address: Address) -> Storm:
        storms.append(Storm(address, hits))
        return storms[0]

    print(work, *hits)  # noqa: T201 - shown when it fails
    bench.run(work, through)
    struck = storms[0].struck
    everything_arrived_once(bench, breaks=STREAMS * len(struck))
    return bool(struck)


def carried_through(bench: Bench, work: Work, script: Script) -> None:
    """Do it in this weather."""
    weathers: list[Weather] = []

    def through(address: Address) -> Weather:
        weathers.append(Weather(address, script))
        return weathers[0]

    bench.run(work, through)
    harm = weathers[0].harm
    everything_arrived_once(bench, breaks=harm.broken, copies=harm.doubled, flipped=harm.flipped_bytes)


@pytest.mark.parametrize("work", Work)
def test_each_blow_is_survived_by_each_work(tmp_path: Path, seed: int, work: Work) -> None:
    rng, struck = random.Random(seed), 0
    with made_bench(tmp_path, seed, "plain") as bench:
        # A file is a few thousand bytes on one connection, so all random hits may fall beside it; the greeting is sure.
        struck += blown_through(bench, work, [Hit(0, 0, rng.randrange(80), Blow.CUT)])
        for blow in Blow:
            if blow not in SILENT or work in {Work.FULL, Work.RESTORE}:
                struck += blown_through(bench, work, [random_hit(rng, blow, STREAMS)])
    assert struck > 0


@pytest.mark.parametrize("work", [Work.INCREMENT, Work.RESTORE])
def test_each_blow_is_survived_inside_of_tls(tmp_path: Path, seed: int, work: Work) -> None:
    rng, struck = random.Random(seed), 0
    with made_bench(tmp_path, seed, "tls") as bench:
        for blow in (each for each in Blow if each not in SILENT - {Blow.STALL}):
            early = Hit(0, rng.randrange(2), rng.randrange(1, 1500), blow)  # in the handshake
            struck += blown_through(bench, work, [early if rng.random() < 0.5 else random_hit(rng, blow, STREAMS)])
    assert struck > 0


def test_each_fault_of_frames_is_survived(tmp_path: Path, seed: int) -> None:
    others = (Work.INCREMENT, Work.PUT_FILES, Work.READ_FILES)
    with made_bench(tmp_path, seed, "plain") as bench:
        for number, script in enumerate(FRAMES.values()):
            for work in ((Work.FULL, Work.RESTORE)[number % 2], others[number % 3]):
                carried_through(bench, work, script)


@pytest.mark.soak
@pytest.mark.parametrize("transport", ["plain", "tls"])
@pytest.mark.parametrize("work", Work)
def test_every_blow_at_every_place_is_survived(tmp_path: Path, seed: int, work: Work, transport: str) -> None:
    rng, struck, done = random.Random(seed), 0, 0
    started_s = CLOCK.monotonic_s()
    with made_bench(tmp_path, seed, transport) as bench:
        for blow in Blow:
            for at in places(rng, work):
                for side in (0, 1):
                    struck += blown_through(bench, work, [Hit(rng.randrange(STREAMS), side, at, blow)])
                    done += 1
        for _ in range(40):  # storms of several blows
            hits = [random_hit(rng, rng.choice(list(Blow)), 3 * STREAMS) for _ in range(6)]
            struck += blown_through(bench, work, hits)
    print(f"{work} {transport}: {done} cases in {CLOCK.monotonic_s() - started_s:.0f} s, {struck} struck")  # noqa: T201
    assert struck > done // 4


def places(rng: random.Random, work: Work) -> list[int]:
    """Return bytes at which a blow falls: each message of the greeting and of a handshake, the words, the units."""
    early = [0, rng.randrange(1, 80), 80, rng.randrange(81, 124), rng.randrange(124, 600), rng.randrange(600, 2500)]
    late = [5000, rng.randrange(5000, 60_000)] if work in {Work.PUT_FILES, Work.READ_FILES} else []
    return early + (late or [rng.randrange(2500, 250_000), rng.randrange(250_000, 900_000)])


@pytest.mark.soak
@pytest.mark.parametrize("work", Work)
def test_any_script_of_frames_is_survived(tmp_path: Path, seed: int, work: Work) -> None:
    rng = random.Random(seed)
    with made_bench(tmp_path, seed, "plain") as bench:
        for script in FRAMES.values():
            carried_through(bench, work, script)
        for _ in range(60):
            carried_through(bench, work, random_script(rng, 3 * STREAMS, 12, list(Fault)))
