"""Either half of a backup as a process of its own: ``listen FOLDER PORT UNIT_S`` or ``dial HOST PORT ATTEMPT FOLDER``.

The listening one says its port and ends with its input; its storage takes ``UNIT_S`` for each unit, one after another.
The dialling one takes an access as JSON from its input, says
how far it is, and its figures last; its disk holds numbered pieces.
"""

import sys
import threading
from collections import deque
from pathlib import Path

import msgspec

from holdfast.faults import set_hook
from holdfast.model.points import DiskAccess
from holdfast.mover.sockets import Address
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from tests.holdfast.mover.movers import MIB, PIECE, PLAIN_PIPE, Setting, Site, numbered

PIPE: PipeOptions = msgspec.structs.replace(
    PLAIN_PIPE, commit_interval_s=0.5, commit_new_bytes=8 * MIB, uncommitted_bytes_max=24 * MIB
)
ONE_COMMIT = msgspec.structs.replace(
    PIPE, commit_interval_s=1e9, commit_new_bytes=1 << 40, uncommitted_bytes_max=1 << 40
)
"""All that slow storage does is what it is told to do: no commit takes its time."""


class SlowStorage:
    """Storage that takes some time for each unit, and takes them in the order in which they come."""

    def __init__(self, unit_s: float) -> None:
        self._unit_s = unit_s
        self._queue: deque[threading.Thread] = deque()
        self._turn = threading.Condition()

    def take(self, point: str) -> None:
        """Let the calling thread wait for its turn, and for its unit."""
        if point != "pipe.unit_written":
            return
        me = threading.current_thread()
        with self._turn:
            self._queue.append(me)
            self._turn.wait_for(lambda: self._queue[0] is me)
        threading.Event().wait(self._unit_s)
        with self._turn:
            self._queue.popleft()
            self._turn.notify_all()


def main(words: list[str]) -> None:
    if words[0] == "listen":
        unit_s = float(words[3])
        site = Site(Path(words[1]), {}, Setting(pipe=ONE_COMMIT if unit_s else PIPE))
        site.setting.options = msgspec.structs.replace(
            site.setting.options, address=Address("127.0.0.1", int(words[2]))
        )
        if unit_s:
            set_hook(SlowStorage(unit_s).take)
        with site.server() as server:
            say(server.address.port)
            sys.stdin.read()
        return
    access = msgspec.json.decode(sys.stdin.readline(), type=DiskAccess)
    site = Site(Path(words[4]), {}, Setting(pipe=PIPE))
    writable = site.sink(Address(words[1], int(words[2])), access, int(words[3]))

    def report(progress: PipeProgress) -> None:
        say(progress.reached_bytes, progress.committed_bytes)

    figures = site.copy(writable, numbered(writable.sink.size_bytes // PIECE), report)
    say(msgspec.json.encode(figures).decode())


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
