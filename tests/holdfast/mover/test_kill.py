"""A mover that is killed costs at most what was not committed, and leaves nothing behind."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgspec
import pytest

from holdfast.errors import LinkError
from holdfast.model.points import DiskAccess, OpenPoint
from holdfast.model.session import Figures
from holdfast.mover.sockets import Address
from holdfast.pipeline.stages import PipeProgress
from holdfast.testing.chains import restored
from tests.holdfast.mover.movers import MIB, PIECE, Setting, Site, numbered, until
from tests.holdfast.mover.process import PIPE

ROOT = Path(__file__).parents[3]
SIZE = 96 * MIB
RESENT_MAX = 64 * MIB


class Process:
    """A process of one half, killed at the end if it lives."""

    def __init__(self, *words: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.holdfast.mover.process", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        yield from self.process.stdout

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def dialling(stack: ExitStack, site: Site, address: Address, access: DiskAccess, attempt: int) -> Process:
    process = stack.enter_context(Process("dial", address.host, address.port, attempt, site.repository.root))
    process.say(msgspec.json.encode(access).decode())
    return process


def begun(tmp_path: Path) -> tuple[Site, OpenPoint]:
    site = Site(tmp_path / "repository", {"a": SIZE}, Setting(pipe=PIPE))
    site.machine.sessions = 1
    return site, site.machine.begin()


def finish(site: Site, opened: OpenPoint, figures: Figures) -> None:
    """Finish the point; compare every byte, and what the chain takes with what a run without accidents takes."""
    site.machine.finish(opened)
    assert restored(site.repository, opened.chain, 1, "a", None) == bytes(numbered(SIZE // PIECE).content)
    assert figures.resent_bytes <= RESENT_MAX
    path = site.repository.chain_file(opened.chain, opened.file)
    assert sorted(each.suffix for each in path.parent.iterdir() if each.is_file()).count(".hfc") == 1
    assert not [each.name for each in path.parent.iterdir() if "tmp" in each.name]
    assert path.stat().st_size <= SIZE + figures.resent_bytes + 4 * MIB


@pytest.mark.slow
def test_the_dialling_process_is_killed_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    site, opened = begun(tmp_path)
    access = site.access(opened)
    with ExitStack() as stack:
        server = stack.enter_context(site.server())
        first = dialling(stack, site, server.address, access, 1)
        committed = 0
        for line in first.lines():
            reached, committed = map(int, line.split())
            if reached > SIZE // 2 and committed > 0:
                break
        first.kill()
        second = dialling(stack, site, server.address, access, 2)
        *reports, last = second.lines()
        figures = msgspec.json.decode(last, type=Figures)
        assert int(reports[0].split()[0]) >= committed
    finish(site, opened, figures)


@pytest.mark.slow
def test_the_listening_process_is_killed_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    site, opened = begun(tmp_path)
    access = site.access(opened)
    disk = numbered(SIZE // PIECE)
    with ExitStack() as stack:
        first = stack.enter_context(Process("listen", site.repository.root, 0, 0))
        port = int(next(first.lines()))
        address = Address("127.0.0.1", port)
        again: list[Process] = []

        def kill(progress: PipeProgress) -> None:
            if progress.reached_bytes > SIZE // 2 and progress.committed_bytes > 0 and not again:
                first.kill()
                again.append(stack.enter_context(Process("listen", site.repository.root, port, 0)))

        with pytest.raises(LinkError) as caught:
            site.copy(site.sink(address, access, 1), disk, kill)
        assert caught.value.code == "link-lost"
        assert caught.value.retryable
        until(lambda: bool(again), "it was killed")
        figures = site.copy(site.sink(address, access, 2), disk)
        assert figures.transferred_bytes <= SIZE + RESENT_MAX
    finish(site, opened, figures)
