"""Runs a command and takes its wall time, processor time and peak memory; and what is made of several runs."""

import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from holdfast.clock import SystemClock
from holdfast.providers.raw_disks import data_spans
from tests.bench.child import Request, Result
from tests.bench.usage import peak_kib

ROOT = Path(__file__).resolve().parents[2]
_LOOK_EVERY_MS = 10
_WARM_UP_BYTES = 4 << 20
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a process, from its start to its end. ``killed`` when the watcher ended it."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    killed: bool
    output: bytes


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """The same figure of several runs."""

    section: str
    name: str
    unit: str
    values: tuple[float, ...]
    goal: float | None = None
    """Not to be exceeded by the median."""
    floor: float | None = None
    """To be reached by the median."""
    bound: float | None = None
    """Not to be exceeded by any run."""

    @property
    def median(self) -> float:
        """Return the middle value."""
        return statistics.median(self.values)

    @property
    def is_reached(self) -> bool:
        """Return whether the goals, if there are any, are met."""
        is_low = self.goal is None or self.median <= self.goal
        is_bounded = self.bound is None or max(self.values) <= self.bound
        return is_low and is_bounded and (self.floor is None or self.median >= self.floor)

    @property
    def judged(self) -> float:
        """Return the value that counts: the worst of what has a bound, else the middle one."""
        return self.median if self.bound is None else max(self.values)

    @property
    def wanted(self) -> str:
        """Return sign and number of the goal; empty when there is none."""
        if self.goal is not None:
            return f"<= {number(self.goal)}"
        if self.bound is not None:
            return f"each <= {number(self.bound)}"
        return "" if self.floor is None else f">= {number(self.floor)}"


def number(value: float) -> str:
    """Return a figure with as many digits as mean something."""
    if value == int(value) and abs(value) < 1_000_000:
        return str(int(value))
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    watch: Callable[[], bool] | None = None,
) -> Measured:
    """Run a command to its end, or until ``watch`` returns True: then it is killed at once.

    Peak memory is of the process itself, without children. Raises `subprocess.CalledProcessError`.
    """
    clock = SystemClock()
    variables = {"PATH": _PATH, "LC_ALL": "C", "HOME": "/nonexistent", **(environment or {})}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = clock.monotonic_s()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as words:
        with subprocess.Popen(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=words
        ) as child:
            peak, killed = _follow(child.pid, watch)
        wall_s = clock.monotonic_s() - started_s
        output, complaints = _content(out), _content(words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if child.returncode and not killed:
        print(complaints.decode(errors="replace"))
        raise subprocess.CalledProcessError(child.returncode, command, output, complaints)
    return Measured(
        wall_s=wall_s,
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_mib=peak / 1024,
        killed=killed,
        output=output,
    )


def run_child(request: Request, watch: Callable[[], bool] | None = None) -> tuple[Measured, Result]:
    """Run one operation of the engine in a process of its own; the result is empty when it was killed."""
    measured = run([sys.executable, "-m", "tests.bench.child", msgspec.json.encode(request).decode()], watch=watch)
    if measured.killed:
        return measured, Result()
    return measured, msgspec.json.decode(measured.output, type=Result)


def settle() -> None:
    """Let nothing wait to be written any more."""
    os.sync()


def warm_up(path: Path) -> None:
    """Read what is allocated of a file into the page cache, and let nothing wait to be written."""
    settle()
    buffer = memoryview(bytearray(_WARM_UP_BYTES))
    with path.open("rb", buffering=0) as file:
        for span in data_spans(file.fileno(), path.stat().st_size):
            for offset in range(span.start, span.end, _WARM_UP_BYTES):
                os.preadv(file.fileno(), [buffer[: span.end - offset]], offset)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _follow(pid: int, watch: Callable[[], bool] | None) -> tuple[int, bool]:
    """Look at a process until it ends, or kill it when ``watch`` says so."""
    peak, killed = 0, False
    descriptor = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    try:
        while not poller.poll(_LOOK_EVERY_MS if watch is None else 1):
            peak = max(peak, peak_kib(pid))
            if watch is not None and not killed and watch():
                os.kill(pid, 9)
                killed = True
    finally:
        os.close(descriptor)
    return peak, killed
