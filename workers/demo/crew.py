"""The demonstration's processes: the program ``holdfast`` itself, started, killed and started again."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from holdfast.clock import Clock
from holdfast.errors import HoldfastError, SessionFailed
from workers.demo.place import PROXY, REPOSITORY, DemoPlace

_READY = "ready"
_READY_DEADLINE_S = 60.0
_END_DEADLINE_S = 20.0
_LOOK_INTERVAL_S = 0.005
_PROGRAM = (sys.executable, "-c", "from workers.cli.main import main; main()")

ROLES = {
    "control": ("control",),
    "proxy": ("proxy", "--name", PROXY),
    "repository": ("repository", "--name", REPOSITORY),
}


class Crew:
    """The worker processes. Leaving the block ends them all."""

    def __init__(self, place: DemoPlace, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, *words: str) -> None:
        """Start a worker, with further words of the command line, and return when it is ready."""
        log = self._place.logs / f"{role}.log"
        with log.open("ab") as output:
            start_at = output.tell()
            self._processes[role] = subprocess.Popen(
                [*_PROGRAM, "worker", *ROLES[role], *words, "--config", str(self._place.config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._wait_ready(role, log, start_at)

    def kill(self, role: str) -> int:
        """End a worker like a power failure; return its process id."""
        process = self._processes.pop(role)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return process.pid

    def stop(self) -> None:
        """End commands whose end nobody waited for; ask every worker to end, and insist after a while."""
        end_commands(self._place)
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_END_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _wait_ready(self, role: str, log: Path, start_at: int) -> None:
        deadline_s = self._clock.monotonic_s() + _READY_DEADLINE_S
        pause = threading.Event()
        while self._clock.monotonic_s() < deadline_s:
            told = log.read_bytes()[start_at:].decode(errors="replace")
            if _READY in told:
                return
            if self._processes[role].poll() is not None:
                raise HoldfastError(f"worker {role} ended at once: {told.strip()[-500:]}")
            pause.wait(10 * _LOOK_INTERVAL_S)
        raise HoldfastError(f"worker {role} was not ready after {_READY_DEADLINE_S:.0f} s, see {log}")

    def __enter__(self) -> Self:
        """Enter a block that ends all workers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all workers."""
        self.stop()


_begun: dict[subprocess.Popen[bytes], Path] = {}
"""Commands whose result nobody has, and the configuration of each."""


class Command:
    """One run of the program, with its result as a document."""

    def __init__(self, place: DemoPlace, *words: str) -> None:
        self.words = words
        self._process = subprocess.Popen(
            [*_PROGRAM, *words, "--json", "--quiet", "--config", str(place.config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        _begun[self._process] = place.config

    def is_running(self) -> bool:
        """Return whether the command has not ended."""
        return self._process.poll() is None

    def result(self) -> dict[str, Any]:
        """Wait for the end and return the document. Raises `SessionFailed` when the command failed."""
        output, errors = self._process.communicate()
        _begun.pop(self._process, None)
        if self._process.returncode != 0:
            told = (output or errors).decode(errors="replace").strip()
            raise SessionFailed(f"`holdfast {' '.join(self.words)}` ended with {self._process.returncode}: {told}")
        found: dict[str, Any] = msgspec.json.decode(output)
        return found


def end_commands(place: DemoPlace) -> None:
    """Kill commands that are still there, or were never asked for their result, because something failed before."""
    for process in [process for process, config in _begun.items() if config == place.config]:
        del _begun[process]
        process.kill()
        process.communicate()


def chain_files(repository: Path) -> set[Path]:
    """Return the chain files of a repository."""
    return set(repository.glob("machines/*/*/*.hfc"))


def wait_until_written(repository: Path, known: set[Path], size_bytes: int, command: Command) -> bool:
    """Wait until a new chain file has ``size_bytes``; False when the command ended before."""
    pause = threading.Event()
    while command.is_running():
        if any(path.stat().st_size >= size_bytes for path in chain_files(repository) - known):
            return True
        pause.wait(_LOOK_INTERVAL_S)
    return False
