"""The fault bench: every kind of work of two movers, through whatever stands between them, and what must hold after."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self

import msgspec

from holdfast.formats.mover.events import Counters, LinkOptions
from holdfast.model.ids import MachineId
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.model.plan import ReadMode
from holdfast.model.points import DiskAccess, OpenPoint
from holdfast.model.spans import Span
from holdfast.mover.file_transfer import put_remote_files, read_remote_files
from holdfast.mover.line import Line
from holdfast.mover.remote_sink import RemoteSink
from holdfast.mover.remote_source import RemoteSource
from holdfast.mover.server import MoverServer, ServerOptions
from holdfast.mover.sockets import Address
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.restore import DiskRestore
from holdfast.planning.read_plan import changed_steps
from holdfast.testing.chains import point_differences
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.mover.movers import CLOCK, HERE, MIB, PIECE, Setting, Site, until

SIZE = 2 * MIB
STREAMS = 2
WINDOW = MIB
"""What one side may have on its way; so no accident costs more."""
LINK = LinkOptions(
    streams=STREAMS,
    receive_window=WINDOW,
    send_window=WINDOW,
    window_max=WINDOW,
    message_max=384 << 10,
    heartbeat_s=0.1,
    silence_s=0.7,
    redial_s=0.05,
    give_up_s=30.0,
)
LEFT_S = 4.0
"""How long the listener waits for a dialler that went away before it could say so."""
_INCREMENTS_MAX = 12


class Work(StrEnum):
    """What is done through the proxy."""

    FULL = "full"
    INCREMENT = "increment"
    RESTORE = "restore"
    PUT_FILES = "put files"
    READ_FILES = "read files"


class Between(Protocol):
    """Something that stands between two movers."""

    @property
    def address(self) -> Address: ...


Through = Callable[[Address], AbstractContextManager[Between]]


class Bench:
    """A repository with points of a machine, whose mover listens from `__enter__` to `__exit__`."""

    def __init__(self, folder: Path, rng: random.Random, setting: Setting | None = None) -> None:
        made = setting if setting is not None else Setting()
        made.link = LINK
        made.options = ServerOptions(address=HERE, link=msgspec.structs.replace(LINK, give_up_s=LEFT_S))
        self.site = Site(folder, {"a": SIZE}, made)
        self.ours: list[Line] = []
        """The diallers' lines of the last work."""
        self._rng = rng
        self._server: MoverServer | None = None
        self._machines = 0
        self._files = MachineFiles(
            files=tuple(
                MachineFile(name=f"web.{at}", content=rng.randbytes(size)) for at, size in enumerate((9, 90_000))
            )
        )
        self._next_machine()
        machine = self.site.machine
        machine.sessions += 1
        opened = machine.begin()
        self.site.put_files(self.site.grant(opened, ""), self._files.files)
        machine.transfer(opened, "a")
        machine.finish(opened)
        self._stored = machine.kept[-1]

    def __enter__(self) -> Self:
        self._server = self.site.server().__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.__exit__()

    def run(self, work: Work, through: Through) -> None:
        """Do it through a proxy; return once it is done, the bytes were compared, and both sides have let go."""
        assert self._server is not None
        self.ours, self.site.lines = [], []
        with through(self._server.address) as between:
            {
                Work.FULL: self._full,
                Work.INCREMENT: self._increment,
                Work.RESTORE: self._restore,
                Work.PUT_FILES: self._put_files,
                Work.READ_FILES: self._read_files,
            }[work](between.address)
            until(lambda: not vars(self._server)["_sessions"], "the session is over")

    @property
    def counters(self) -> tuple[Counters, Counters]:
        """Return what the links of the last work have done: the dialler's side and the listener's."""
        return _sum(self.ours), _sum(self.site.lines)

    def _line(self, address: Address, access: DiskAccess) -> Line:
        line = self.site.line(address, access)
        self.ours.append(line)
        return line

    def _check_memory(self, _: object) -> None:
        for line, window in [*((each, WINDOW) for each in self.ours), *((each, 9 * MIB) for each in self.site.lines)]:
            sending, receiving = vars(line)["_link"].memory
            assert sending <= window
            assert receiving <= window

    def _next_machine(self) -> None:
        self._machines += 1
        machine = self.site.machine
        machine.machine_id = MachineId(f"m{self._machines}")
        machine.rewind(0)
        machine.disks["a"].write(Span(0, SIZE))

    def _full(self, address: Address) -> None:
        self._next_machine()
        self._back_up(address, [Span(0, SIZE)])

    def _increment(self, address: Address) -> None:
        if not 0 < len(self.site.machine.kept) < _INCREMENTS_MAX:
            self._next_machine()
            self.site.machine.back_up()
        firsts = sorted(self._rng.sample(range(0, SIZE // PIECE, 4), 5))
        changed = [Span(first * PIECE, 3 * PIECE) for first in firsts]
        for span in changed:
            self.site.machine.disks["a"].write(span)
        self._back_up(address, changed)

    def _back_up(self, address: Address, changed: list[Span]) -> None:
        site = self.site
        site.machine.sessions += 1
        opened, access = self._begun("a")
        writable = RemoteSink.open(self._line(address, access), access.grant)
        reader = site.reader()
        earlier = 0 if writable.earlier is None else writable.earlier.size_bytes
        steps = changed_steps(changed, reader.allocated_spans(), (earlier, SIZE), PIECE)
        DiskCopy(reader, writable.sink, CLOCK, site.setting.pipe).run(steps, self._check_memory)
        site.machine.finish(opened)
        assert list(point_differences(site.repository, site.machine.kept[-1], None)) == []

    def _begun(self, disk: str) -> tuple[OpenPoint, DiskAccess]:
        opened = self.site.machine.begin()
        return opened, self.site.access(opened, disk)

    def _restore(self, address: Address) -> None:
        stored = self._stored
        access = self.site.reading(stored.summary.chain, stored.summary.number)
        source = RemoteSource.open(self._line(address, access), access.grant)
        target = MemoryDisk(bytes(source.size_bytes))
        try:
            DiskRestore(source, target, source.digest_key, CLOCK).run(0, self._check_memory)
        finally:
            source.close()
        assert bytes(target.content) == stored.disks["a"].read(Span(0, SIZE))

    def _put_files(self, address: Address) -> None:
        machine = self.site.machine
        if not 0 < len(machine.kept) < _INCREMENTS_MAX:
            self._next_machine()
        machine.sessions += 1
        opened, access = self._begun("")
        put_remote_files(self._line(address, access), access.grant, self._files)
        machine.transfer(opened, "a", ReadMode.CHANGED)
        machine.finish(opened)
        reading = self.site.grant(opened, "")
        assert self.site.read_files(reading) == self._files

    def _read_files(self, address: Address) -> None:
        access = self.site.reading(self._stored.summary.chain, self._stored.summary.number, "")
        assert read_remote_files(self._line(address, access), access.grant) == self._files


def _sum(lines: list[Line]) -> Counters:
    found = Counters()
    for line in lines:
        told = line.counters
        for name in Counters.__struct_fields__:
            setattr(found, name, getattr(found, name) + getattr(told, name))
    return found


class _Nothing(msgspec.Struct, frozen=True):
    address: Address


@contextmanager
def nothing(target: Address) -> Iterator[Between]:
    """Let both movers speak with each other directly."""
    yield _Nothing(target)
