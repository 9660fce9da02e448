"""The proxy's side of a backup or restore between two movers, as a process of its own.

`python -m tests.bench.proxy_side <ProxyRequest as JSON>` carries the disks out, all at once, and prints a `Result` of
each as JSON; processor time and memory are those of the process.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec

from holdfast.clock import SystemClock
from holdfast.model.points import MoverAccess
from holdfast.mover.client import MoverClient
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.restore import DiskRestore
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.providers.raw_disks import TargetDisk
from tests.bench.child import Request, Result, reader_of, reporter_of, steps_of
from tests.bench.identities import dialling_context
from tests.bench.memory_disks import MemoryTarget
from tests.bench.usage import add_usage

_CLOCK = SystemClock()


class ProxyRequest(msgspec.Struct, kw_only=True):
    """What to carry, and how its repository is reached."""

    request: Request
    movers: list[MoverAccess]
    """One for each disk; the same image is sent as every one of them."""
    certificates: str = ""
    attempt: int = 1
    threads: int = PipeOptions().threads


def _send(asked: ProxyRequest, client: MoverClient, mover: MoverAccess) -> Result:
    """What the transfer activity of a proxy does."""
    request = asked.request
    [access] = mover.disks
    with reader_of(request) as reader:
        started_s = _CLOCK.monotonic_s()
        disk = RemoteSink.open(client.line(mover, access, asked.attempt), access.grant)
        opened_s = _CLOCK.monotonic_s()
        options = PipeOptions(compression=request.compression, threads=asked.threads)
        copy = DiskCopy(reader, disk.sink, _CLOCK, options)
        quarters: dict[int, float] = {}
        note = reporter_of(request)

        def report(progress: PipeProgress) -> None:
            note(progress)
            quarters.setdefault(4 * progress.reached_bytes // progress.size_bytes, _CLOCK.monotonic_s())

        figures = copy.run(steps_of(request, reader), report)
        ended_s = _CLOCK.monotonic_s()
    parts = {"open": opened_s - started_s, "copy": ended_s - opened_s}
    parts |= {f"reached {quarter}": at_s - started_s for quarter, at_s in quarters.items()}
    return Result(seconds=ended_s - started_s, parts=parts, figures=figures, stages=copy.progress().stages)


def _fetch(asked: ProxyRequest, client: MoverClient, mover: MoverAccess) -> Result:
    [access] = mover.disks
    started_s = _CLOCK.monotonic_s()
    with (
        closing(RemoteSource.open(client.line(mover, access, asked.attempt), access.grant)) as source,
        _target(asked, asked.movers.index(mover), source.size_bytes) as disk,
    ):
        copy = DiskRestore(source, disk, source.digest_key, _CLOCK)
        figures = copy.run(0, lambda _: None)
    return Result(seconds=_CLOCK.monotonic_s() - started_s, figures=figures, stages=copy.progress().stages)


def _target(asked: ProxyRequest, number: int, size_bytes: int) -> TargetDisk | MemoryTarget:
    if asked.request.from_memory:
        return MemoryTarget(size_bytes)
    target = Path(f"{asked.request.target}-{number}" if number else asked.request.target)
    with target.open("xb") as file:
        file.truncate(size_bytes)
    return TargetDisk(target)


def main() -> None:
    """Carry out the request in the first argument."""
    asked = msgspec.json.decode(sys.argv[1], type=ProxyRequest)
    tls = dialling_context(Path(asked.certificates)) if asked.certificates else None
    client = MoverClient(tls, _CLOCK)
    work = _fetch if asked.request.operation == "restore" else _send
    with ThreadPoolExecutor(len(asked.movers)) as pool:
        results = list(pool.map(lambda mover: work(asked, client, mover), asked.movers))
    for result in results:
        add_usage(result)
    sys.stdout.write(msgspec.json.encode(results).decode())


if __name__ == "__main__":
    main()
