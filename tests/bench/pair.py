"""Two movers, each a process of its own: what one run of them takes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from holdfast.model.points import MoverAccess
from tests.bench.child import Request, Result
from tests.bench.measure import ROOT, Measured, run
from tests.bench.proxy_side import ProxyRequest
from tests.bench.repository_side import RepositoryRequest


class PairResult(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides took. Times are without the start of the interpreters."""

    proxy: Measured
    disks: list[Result]
    repository: Result

    @property
    def seconds(self) -> float:
        """Return the time of the whole operation, the point begun and finished."""
        return sum(self.repository.parts.values()) + max(disk.seconds for disk in self.disks)

    @property
    def cpu_s(self) -> float:
        """Return the processor time of both sides."""
        return self.proxy.cpu_s + self.repository.cpu_s


class Repository:
    """The process of the repository's side; killed at the end of the `with` block if it lives."""

    def __init__(self, asked: RepositoryRequest, before: Sequence[str] = ()) -> None:
        words = [sys.executable, "-m", "tests.bench.repository_side", msgspec.json.encode(asked).decode()]
        self._process = subprocess.Popen([*before, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert self._process.stdout is not None
        self.movers = msgspec.json.decode(self._process.stdout.readline(), type=list[MoverAccess])

    def finish(self) -> Result:
        """Finish the points and end; return what the process took."""
        found, _ = self._process.communicate(b"finish\n")
        return msgspec.json.decode(found, type=Result)

    def kill(self) -> None:
        """End the process at once."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@contextmanager
def repository_side(asked: RepositoryRequest, before: Sequence[str] = ()) -> Iterator[Repository]:
    """Serve until the end of the block."""
    found = Repository(asked, before)
    try:
        yield found
    finally:
        found.kill()


def proxy_side(
    asked: ProxyRequest, before: Sequence[str] = (), watch: Callable[[], bool] | None = None
) -> tuple[Measured, list[Result]]:
    """Carry disks; the results are empty when the process was killed."""
    words = [sys.executable, "-m", "tests.bench.proxy_side", msgspec.json.encode(asked).decode()]
    measured = run([*before, *words], watch=watch)
    return measured, [] if measured.killed else msgspec.json.decode(measured.output, type=list[Result])


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """Where the two sides run: what stands before their commands, and where the repository listens."""

    proxy: Sequence[str] = ()
    repository: Sequence[str] = ()
    host: str = "127.0.0.1"


def run_pair(request: Request, certificates: str, size_bytes: int = 0, ends: Ends | None = None) -> PairResult:
    """Carry one disk; ``size_bytes`` is that of the image, 0 to restore."""
    ends = Ends() if ends is None else ends
    serving = RepositoryRequest(request=request, size_bytes=size_bytes, host=ends.host, certificates=certificates)
    with repository_side(serving, ends.repository) as repository:
        asked = ProxyRequest(request=request, movers=repository.movers, certificates=certificates)
        measured, disks = proxy_side(asked, ends.proxy)
        return PairResult(proxy=measured, disks=disks, repository=repository.finish())
