"""Either half of a backup as a process of its own: ``listen FOLDER PORT`` or ``dial HOST PORT ATTEMPT FOLDER``.

The listening one says its port and ends with its input. The dialling one takes an access as JSON from its input, says
how far it is, and its figures last; its disk holds numbered pieces.
"""

import sys
from pathlib import Path

import msgspec

from holdfast.model.points import DiskAccess
from holdfast.mover.sockets import Address
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from tests.holdfast.mover.movers import MIB, PIECE, PLAIN_PIPE, Setting, Site, numbered

PIPE: PipeOptions = msgspec.structs.replace(
    PLAIN_PIPE, commit_interval_s=0.5, commit_new_bytes=8 * MIB, uncommitted_bytes_max=24 * MIB
)


def main(words: list[str]) -> None:
    if words[0] == "listen":
        site = Site(Path(words[1]), {}, Setting(pipe=PIPE))
        site.setting.options = msgspec.structs.replace(
            site.setting.options, address=Address("127.0.0.1", int(words[2]))
        )
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
