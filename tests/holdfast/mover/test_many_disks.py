"""Many disks at once through one mover: all finish, none waits for the others, memory stays bounded."""

import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from holdfast.model.points import OpenPoint
from holdfast.mover.sockets import Address
from tests.holdfast.mover.movers import CLOCK, MIB, SWIFT, Setting, Site, until
from tests.holdfast.mover.process import PIPE
from tests.holdfast.mover.test_kill import Process

Begun = tuple[Site, OpenPoint]


def run(folder: Path, disks: int, size: int) -> tuple[list[float], int]:
    """Bring disks of as many machines over; return the seconds of each and the memory of the listening process."""
    setting = Setting(pipe=msgspec.structs.replace(PIPE, threads=1), link=msgspec.structs.replace(SWIFT, silence_s=20))
    sites = [Site(folder, {"a": size}, setting) for _ in range(disks)]
    begun: list[Begun] = []
    for number, site in enumerate(sites):
        site.machine.machine_id = type(site.machine.machine_id)(f"m{number}")
        begun.append((site, site.begin()))
    seconds: list[float] = []
    with Process("listen", folder, 0) as listener:
        address = Address("127.0.0.1", int(next(listener.lines())))
        started_s = CLOCK.monotonic_s()

        def transfer(site: Site, opened: OpenPoint) -> None:
            site.transfer(address, site.access(opened))
            seconds.append(CLOCK.monotonic_s() - started_s)

        threads = [threading.Thread(target=transfer, args=pair) for pair in begun]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        memory = memory_max(listener.process.pid)
    for site, opened in begun[:: max(1, disks // 4)]:
        site.finish(opened)
    return seconds, memory


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


@pytest.mark.slow
def test_64_disks_finish_together(tmp_path: Path) -> None:
    seconds, memory = run(tmp_path / "repository", 64, 2 * MIB)
    assert len(seconds) == 64
    assert max(seconds) < 10 * min(seconds) + 5
    assert memory < 700 * MIB


@pytest.mark.soak
def test_64_larger_disks_finish_together_within_the_memory_of_the_mover(tmp_path: Path) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert files[1] > 2000, "too few descriptors are allowed"
    seconds, memory = run(tmp_path / "repository", 64, 32 * MIB)
    assert len(seconds) == 64
    assert max(seconds) < 5 * min(seconds)
    assert memory < 1500 * MIB
