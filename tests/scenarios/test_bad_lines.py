"""Whatever the line between two workers does: sessions succeed, bytes are right, and little is sent twice.

A server and three workers as processes. What the configuration names as the address of the repository's mover is that
of a scripted proxy; the mover listens behind it.
"""

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.formats.mover.events import LinkOptions
from holdfast.mover.sockets import Address
from tests.holdfast.mover.storm import ANY, Blow, Hit, Storm
from tests.holdfast.mover.weather import Fault, Script, Spot, Weather, random_script
from tests.scenarios.apart import back_up, elsewhere_of, give_mover, make_machine, restore
from tests.scenarios.places import opened_place
from workers.demo.crew import Crew
from workers.demo.place import DemoPlace
from workers.loopback import LOOPBACK, free_ports

# The first test also pays for the start of everything.
pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.timeout(400)]

MIB = 1 << 20
DISK_BYTES = 24 * MIB
"""Of bytes that do not compress."""
WINDOW = LinkOptions().receive_window
"""What may be on its way over all connections of a line that is not long; so a broken one costs no more."""
BESIDE = 2 * MIB
"""Room for frames around the disk's bytes, for offers, and for what is said of machine files."""
SEED = 33
DIALLER, LISTENER = 0, 1
CONNECTIONS = 16
"""More than the lines of a session have in the beginning, one of which carries the machine files."""
STREAMS_FAR = 8
SLOWLY = 4 * MIB
"""Bytes per second that a connection of a slow line carries."""
SILENT = {Blow.STALL, Blow.FREEZE, Blow.FREEZE_ALL}
"""Blows that only twenty seconds of silence tell of."""


class Cost(msgspec.Struct, frozen=True):
    """What a bad line may have cost."""

    hits: int
    broken: int
    flipped_bytes: int
    sent: list[int]
    """Bytes that came from the dialler and from the listener."""


class Stage(msgspec.Struct, frozen=True):
    """A place whose workers run, where proxies find its mover, and where that is."""

    place: DemoPlace
    named: int
    listens: Address

    def storm(self, *hits: Hit) -> Storm:
        """Return a line that does something to bytes."""
        return Storm(self.listens, hits, self.named)

    def slow_line(self) -> Storm:
        """Return a line that carries little at a time."""
        return SlowLine(self.listens, (), self.named)

    def weather(self, script: Script) -> Weather:
        """Return a line that does something to frames."""
        return Weather(self.listens, script, port=self.named)


class SlowLine(Storm):
    """Lets all bytes wait."""

    @override
    def _blown(self, number: int, side: int, source: socket.socket) -> Iterator[bytes]:
        for part in super()._blown(number, side, source):
            self._over.wait(len(part) / SLOWLY)
            yield part


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with opened_place(tmp_path_factory.mktemp("lines")) as (place, _):
        named, listens = free_ports(2)
        give_mover(place, f"{LOOPBACK}:{named}", f"{LOOPBACK}:{listens}")
        far = elsewhere_of(place)
        make_machine(place, random.Random(SEED).randbytes(DISK_BYTES))
        with Crew(place, SystemClock()) as home, Crew(far, SystemClock()) as elsewhere:
            home.start("control")
            home.start("repository")
            elsewhere.start("proxy")
            yield Stage(place, named, Address(LOOPBACK, listens))


Line: TypeAlias = Storm | Weather
Making: TypeAlias = Callable[[Stage, int], Line]
"""Makes a line that is bad for what one side says."""


def calm(stage: Stage, _: int) -> Line:
    return stage.storm()


def cut(stage: Stage, side: int) -> Line:
    return stage.storm(Hit(ANY, side, 2 * MIB, Blow.CUT))


def stalled(stage: Stage, side: int) -> Line:
    return stage.storm(Hit(ANY, side, 2 * MIB, Blow.STALL))


def slow(stage: Stage, _: int) -> Line:
    return stage.slow_line()


def framed(fault: Fault, frames: range) -> Making:
    """Return what does the same to some frames of every connection."""

    def made(stage: Stage, side: int) -> Line:
        return stage.weather({Spot(each, side, frame): fault for each in range(CONNECTIONS) for frame in frames})

    return made


flipped, doubled, swapped = (
    framed(Fault.FLIP, range(2, 4)),
    framed(Fault.TWICE, range(2, 40)),
    framed(Fault.SWAP, range(2, 3)),
)


@pytest.mark.parametrize(
    "backup_line, restore_line",
    [
        pytest.param(cut, cut, id="cut after two MiB"),
        pytest.param(stalled, calm, id="one connection stalls in the backup"),
        pytest.param(calm, stalled, id="one connection stalls in the restore", marks=pytest.mark.soak),
        pytest.param(flipped, flipped, id="a bit of some messages flips"),
        pytest.param(doubled, doubled, id="messages come twice"),
        pytest.param(swapped, swapped, id="messages come out of order"),
        pytest.param(slow, slow, id="slow"),
    ],
)
def test_a_backup_and_its_restore_come_over_a_bad_line(stage: Stage, backup_line: Making, restore_line: Making) -> None:
    with backup_line(stage, DIALLER) as line:
        backup = back_up(stage.place)
    expect_little_sent_twice(backup, line, DIALLER)
    assert cost_of(line).hits > 0 or backup_line in {calm, slow}
    with restore_line(stage, LISTENER) as line:
        restored = restore(stage.place, backup)
    expect_little_sent_twice(restored, line, LISTENER)
    assert cost_of(line).hits > 0 or restore_line in {calm, slow}


def expect_little_sent_twice(document: dict[str, Any], line: Line, side: int) -> None:
    """What was damaged is sent again, and no more than the windows of the connections that broke."""
    cost = cost_of(line)
    print(f"{cost}")  # noqa: T201 - shown when it fails
    again_max = cost.broken * WINDOW + cost.flipped_bytes
    assert document["session"]["figures"]["resent_bytes"] <= again_max
    assert DISK_BYTES < cost.sent[side] <= DISK_BYTES + BESIDE + again_max


def cost_of(line: Line) -> Cost:
    if isinstance(line, Weather):
        harm = line.harm
        hits = harm.broken + harm.flipped_frames + harm.doubled + harm.swapped
        return Cost(hits=hits, broken=harm.broken, flipped_bytes=harm.flipped_bytes, sent=harm.sent)
    broken = sum(STREAMS_FAR if hit.blow is Blow.FREEZE_ALL else 1 for hit in line.struck)
    return Cost(hits=len(line.struck), broken=broken, flipped_bytes=0, sent=line.sent)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("blow", Blow)
def test_each_blow_at_each_place_from_either_side_is_survived(stage: Stage, blow: Blow) -> None:
    """In the greeting, in the first words, and from the side that sends the disk in the middle."""
    struck = 0
    for side in (DIALLER, LISTENER):
        for at in (300_000,) if blow in SILENT else (40, 700, 300_000, 3 * MIB):
            with stage.storm(Hit(ANY, side, at, blow)) as line:
                backup = back_up(stage.place)
            expect_little_sent_twice(backup, line, DIALLER)
            struck += len(line.struck)
            with stage.storm(Hit(ANY, side, at, blow)) as line:
                restored = restore(stage.place, backup)
            expect_little_sent_twice(restored, line, LISTENER)
            struck += len(line.struck)
    assert struck > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("run", range(6))
def test_any_faults_of_frames_are_survived(stage: Stage, seed: int, run: int) -> None:
    chance = random.Random(seed + run)
    kinds: list[Fault] = [fault for fault in Fault if fault is not Fault.STALL]
    with stage.weather(random_script(chance, CONNECTIONS, 60, kinds)) as line:
        backup = back_up(stage.place)
    expect_little_sent_twice(backup, line, DIALLER)
    with stage.weather(random_script(chance, CONNECTIONS, 60, kinds)) as line:
        restored = restore(stage.place, backup)
    expect_little_sent_twice(restored, line, LISTENER)
