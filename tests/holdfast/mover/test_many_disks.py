"""Many disks at once through one mover: each gets its share while all are at work, and memory stays bounded."""

import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from holdfast.model.points import OpenPoint
from holdfast.mover.sockets import Address
from holdfast.pipeline.sink import WritableDisk
from holdfast.testing.chains import restored
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import CLOCK, MIB, PIECE, SWIFT, Setting, Site, numbered, until
from tests.holdfast.mover.process import PIPE
from tests.holdfast.mover.test_kill import Process

Begun = tuple[Site, OpenPoint, WritableDisk]


# Little is on its way of each, so that what a file holds is what its disk was served.
NARROW = msgspec.structs.replace(PIPE, threads=1, in_flight_bytes=2 * MIB, offered_bytes=4 * MIB)
NARROW_LINK = msgspec.structs.replace(
    SWIFT, silence_s=20, send_window=2 * MIB, receive_window=MIB, message_max=384 << 10
)


UNIT = 256 << 10
BATCH = 4 * UNIT
"""What a disk is read ahead by at once, and so what it lags behind by when it pauses."""
BEGUN = 2 * UNIT
"""A file that is larger holds units of its disk."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of disks that were brought over at once."""

    served: list[int]
    """Bytes by which each file grew while all disks were at work: after the last began, before the first ended."""
    seconds: list[float]
    memory: int
    """Most bytes that the listening process has held."""

    @property
    def spread(self) -> float:
        """How much more than the least the most was served, as a part of the mean."""
        return (max(self.served) - min(self.served)) * len(self.served) / max(1, sum(self.served))


def run(folder: Path, disks: int, size: int, unit_s: float = 0.0) -> Outcome:
    """Bring a disk of each of as many machines over, at once, to storage that takes ``unit_s`` for each unit."""
    setting = Setting(pipe=NARROW, link=NARROW_LINK)
    content, seconds = numbered(size // PIECE), list[float]()
    with Process("listen", folder, 0, unit_s) as listener, ExitStack() as stack:
        address = Address("127.0.0.1", int(next(listener.lines())))
        begun = [opened(Site(folder, {"a": size}, setting), address, number, stack) for number in range(disks)]
        started_s, samples = CLOCK.monotonic_s(), list[list[int]]()

        def transfer(site: Site, _: OpenPoint, writable: WritableDisk) -> None:
            site.copy(writable, content)
            seconds.append(CLOCK.monotonic_s() - started_s)

        threads = [threading.Thread(target=transfer, args=each) for each in begun]
        for thread in threads:
            thread.start()
        while not seconds and any(thread.is_alive() for thread in threads):
            samples.append([stored(each) for each in begun])
            threading.Event().wait(0.02)
        for thread in threads:
            thread.join()
        memory = memory_max(listener.process.pid)
    served = grown([each for each in samples if min(each) > BEGUN and max(each) < size])
    check(begun[:: max(1, disks // 4)], content)
    return Outcome(served, seconds, memory)


def grown(samples: list[list[int]]) -> list[int]:
    """Return by how much each number grew from the first sample to the last."""
    return [last - first for first, last in zip(samples[0], samples[-1], strict=True)] if samples else []


def opened(site: Site, address: Address, number: int, stack: ExitStack) -> Begun:
    """Begin a point of another machine, and the session of its disk."""
    site.machine.machine_id = type(site.machine.machine_id)(f"m{number}")
    site.machine.sessions = 1
    point = site.machine.begin()
    writable = site.sink(address, site.access(point))
    stack.callback(writable.sink.close)
    return site, point, writable


def stored(begun: Begun) -> int:
    site, point, _ = begun
    return site.repository.chain_file(point.chain, point.file).stat().st_size


def check(begun: list[Begun], content: MemoryDisk) -> None:
    """Finish points, and compare every byte."""
    for site, point, _ in begun:
        site.machine.finish(point)
        assert restored(site.repository, point.chain, 1, "a", None) == content.content


def memory_max(pid: int) -> int:
    """Return the most bytes that a process has held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) << 10


def test_disks_of_one_machine_come_at_once_into_its_one_point(tmp_path: Path) -> None:
    site = Site(tmp_path / "repository", {"a": 3 * MIB, "b": 2 * MIB, "c": MIB})
    opened = site.begin()
    with site.server() as server, ExitStack() as stack:
        sinks = {}
        for disk in site.machine.disks:
            sinks[disk] = site.sink(server.address, site.access(opened, disk))
            stack.callback(sinks[disk].sink.close)
        with ThreadPoolExecutor(len(sinks)) as pool:
            flights = [pool.submit(site.copy, sink, site.reader(disk)) for disk, sink in sinks.items()]
            figures = [flight.result() for flight in flights]
        # Together they grew the file by what it has, and no byte of it is counted twice.
        path = site.repository.chain_file(opened.chain, opened.file)
        until(lambda: site.is_free(opened), "the file is let go of")
    stored = sum(figure.stored_bytes for figure in figures)
    assert 6 * MIB <= stored <= path.stat().st_size
    site.finish(opened)


def expect_fair(found: Outcome, disks: int, pauses: int) -> None:
    """Every disk got its share of the storage, within a tenth and some pauses, as long as all were at work."""
    print(f"spread {found.spread:.3f}", found)  # noqa: T201 - shown when it fails
    assert len(found.seconds) == disks
    assert min(found.served) > 16 * UNIT, "too little was seen"
    assert found.spread <= 0.1 + pauses * BATCH * disks / sum(found.served)


def test_disks_share_the_storage_of_a_repository_fairly(tmp_path: Path) -> None:
    expect_fair(run(tmp_path / "repository", 10, 8 * MIB, 0.008), 10, pauses=2)


@pytest.mark.slow
def test_64_disks_at_once_all_get_on_and_take_little_memory(tmp_path: Path) -> None:
    found = run(tmp_path / "repository", 64, 2 * MIB)
    print(found)  # noqa: T201 - shown when it fails
    assert len(found.seconds) == 64
    assert max(found.seconds) < 10 * min(found.seconds) + 5
    assert found.memory < 700 * MIB


@pytest.mark.soak
def test_64_larger_disks_share_the_storage_fairly_within_the_memory_of_the_mover(tmp_path: Path) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert files[1] > 2000, "too few descriptors are allowed"
    found = run(tmp_path / "repository", 64, 32 * MIB, 0.008)
    expect_fair(found, 64, pauses=1)
    assert found.memory < 1500 * MIB


@pytest.mark.soak
def test_64_disks_on_two_busy_processes_all_get_on(tmp_path: Path) -> None:
    found = run(tmp_path / "repository", 64, 32 * MIB)
    print(f"spread {found.spread:.3f}", found)  # noqa: T201 - shown when it fails
    assert len(found.seconds) == 64
    assert min(found.served) > sum(found.served) / 64 / 4
    assert found.memory < 1500 * MIB
