"""Changes a chain in processes that are killed at a fault point.

``python -m tests.fuzz.upkeep_driver`` reads one request per line from its input, forks a child for it, and answers with
a line when the child is gone. The parent has no threads, so forking it is cheap and safe.
"""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from holdfast.faults import set_hook
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.methods.compacting import compact
from holdfast.storage.methods.reversing import ReverseOptions, make_newest_full
from holdfast.storage.methods.synthesis import synthesize
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.testing.faults import HitCounter, KillAt

UNIT = 256 << 10
FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is to do, and how it is to die."""

    root: str
    chain: str
    change: str
    kill_name: str = ""
    kill_hit: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How the child ended: by itself, with how often it came by each fault point, or by a signal."""

    signal: int = 0
    status: int = 0
    hits: dict[str, int] = {}


def _merge(repository: Repository, folder: Path) -> None:
    ChainUpkeep(repository.files, folder, None).merge_all(FULL, [SECOND, THIRD], commit_bytes=UNIT)


def _compact(repository: Repository, folder: Path) -> None:
    compact(repository.files, folder, None, commit_bytes=UNIT)


def _make_full(repository: Repository, folder: Path) -> None:
    synthesize(repository, repository.relative(folder), None, commit_bytes=UNIT)


def _reverse(repository: Repository, folder: Path) -> None:
    make_newest_full(repository.files, folder, None, options=ReverseOptions(commit_bytes=UNIT))


CHANGES: dict[str, Callable[[Repository, Path], None]] = {
    "merge": _merge,
    "compact": _compact,
    "synthetic full": _make_full,
    "reverse": _reverse,
}


def _child(request: Request) -> dict[str, int]:
    counter = HitCounter()
    set_hook(KillAt(request.kill_name, request.kill_hit) if request.kill_name else counter)
    repository = Repository.open(Path(request.root), HostFiles())
    CHANGES[request.change](repository, repository.chain_folder(request.chain))
    return dict(counter.hits)


def _run(request: Request) -> Answer:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, msgspec.json.encode(_child(request)))
            status = 0
        except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, how = os.waitpid(child, 0)
    hits = msgspec.json.decode(told, type=dict[str, int]) if told else {}
    return Answer(signal=os.WTERMSIG(how) if os.WIFSIGNALED(how) else 0, status=os.WEXITSTATUS(how), hits=hits)


def main() -> None:
    """Serve requests until the input ends."""
    for line in sys.stdin.buffer:
        answer = _run(msgspec.json.decode(line, type=Request))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
