"""Disks of one point that are written at the same time end up as if each had been alone."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import msgspec
import pytest
from isal.isal_zlib import crc32

from holdfast.errors import ChainBusy, EncodingFailed, StoreFailed
from holdfast.faults import set_hook
from holdfast.formats.codec import compress
from holdfast.formats.digests import piece_digests
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.plan import ReadMode
from holdfast.model.spans import Span
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.sink import DiskSink, PackedUnit, WritableDisk
from holdfast.pipeline.stages import PipeOptions
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.health.folder import rebuild_file, verify_folder
from holdfast.storage.intake.open_points import OpenPoints
from holdfast.storage.intake.opening import DiskOpener
from holdfast.testing.chains import ProtectedMachine, place_of
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.storage.conftest import PIPE, make_machine

PER_UNIT = 4
UNIT = PER_UNIT * PIECE_SIZE
EACH_UNIT = msgspec.structs.replace(PIPE, commit_new_bytes=1)


class Scene:
    """A point of a machine with several disks, each open for writing when it is asked for."""

    def __init__(self, sizes: dict[str, int], pipe: PipeOptions = PIPE) -> None:
        self.machine: ProtectedMachine = make_machine(sizes)
        self.machine.pipe = pipe
        self.machine.sessions = 1
        self.opened = self.machine.begin()
        self.points = OpenPoints()
        self.sent: dict[str, int] = {}

    @contextmanager
    def disk(self, key: str, lies_at: str = "") -> Iterator[WritableDisk]:
        machine = self.machine
        self.sent[key] = 0
        place = msgspec.structs.replace(place_of(self.opened, key), lies_at=lies_at)
        with ExitStack() as stack:
            yield DiskOpener(machine.repository, None, machine.clock, machine.pipe, self.points).open(place, stack)

    def content(self, key: str, first: int, count: int) -> bytes:
        return self.machine.disks[key].read(Span(first * PIECE_SIZE, count * PIECE_SIZE))

    def offer(self, key: str, sink: DiskSink, first: int, count: int = PER_UNIT) -> PackedUnit:
        """Offer pieces, all of which are wanted, and return the unit to be sent."""
        body = self.content(key, first, count)
        digests = piece_digests(body, sink.digest_key)
        wanted = sink.offer(first, digests).result()
        assert list(wanted.slots) == list(range(count))
        codec, packed = compress(body, Compression.NONE)
        return PackedUnit(
            number=wanted.place // PER_UNIT,
            pieces=range(first, first + count),
            digests=digests,
            codec=codec,
            packed=packed,
            body_crc=crc32(body),
        )

    def send(self, key: str, sink: DiskSink, first: int) -> None:
        sink.put(self.offer(key, sink, first))
        self.sent[key] = first + PER_UNIT

    def copy(self, key: str, sink: DiskSink) -> None:
        """Bring the rest of a disk over, once everything that was sent has been taken."""
        while sink.standing.taken < self.sent.get(key, 0):
            sink.tend()
        reader = MemoryDisk(self.content(key, 0, self.pieces(key)))
        steps = whole_disk_steps([Span(0, reader.size_bytes)], reader.size_bytes, PIECE_SIZE)
        DiskCopy(reader, sink, self.machine.clock, self.machine.pipe).run(steps, lambda _: None)

    def pieces(self, key: str) -> int:
        return self.machine.disks[key].size_bytes // PIECE_SIZE

    def done(self) -> dict[str, int]:
        """Return how far each disk is in the last commit."""
        path = self.machine.repository.chain_file(self.opened.chain, self.opened.file)
        with ChainFile.open(self.machine.repository.files, path) as file:
            return {disk.key: disk.done for disk in file.contents.points[0].disks}

    def expect(self) -> None:
        """Finish the point: every disk reads as it is, also when the file was rebuilt from its records."""
        machine = self.machine
        folder = machine.repository.chain_folder(self.opened.chain)
        machine.finish(self.opened)
        for _ in range(2):
            assert machine.differences() == []
            assert verify_folder(machine.repository.files, folder, None, lambda _: None).is_good
            with closing(machine.repository.files.open(folder / self.opened.file, write=True)) as file:
                file.write(0, [bytes(8192)])
            report = rebuild_file(machine.repository.files, folder, self.opened.file, None)
            machine.repository.files.remove(folder / report.kept_as)
        assert machine.differences() == []


def test_units_of_several_disks_come_in_any_order() -> None:
    scene = Scene({"a": 16, "b": 16})
    with scene.disk("a") as a, scene.disk("b") as b:
        first = [scene.offer("a", a.sink, 0), scene.offer("a", a.sink, 4)]
        second = [scene.offer("b", b.sink, 0), scene.offer("b", b.sink, 4)]
        # Both were promised the same places; what comes first gets them.
        assert [unit.number for unit in first] == [unit.number for unit in second] == [0, 1]
        for sink, unit in ((b.sink, second[0]), (a.sink, first[0]), (a.sink, first[1]), (b.sink, second[1])):
            sink.put(unit)
        scene.sent = {"a": 8, "b": 8}
        scene.copy("a", a.sink)
        scene.copy("b", b.sink)
    scene.expect()


def test_a_commit_covers_what_every_disk_has_brought() -> None:
    scene = Scene({"a": 16, "b": 16}, msgspec.structs.replace(PIPE, commit_new_bytes=3 * UNIT))
    with scene.disk("a") as a, scene.disk("b") as b:
        scene.send("a", a.sink, 0)
        scene.send("b", b.sink, 0)
        scene.send("b", b.sink, 4)
        assert scene.done() == {"a": 0, "b": 0}
        scene.offer("a", a.sink, 4)  # makes the commit due
        scene.copy("b", b.sink)
        assert scene.done() == {"a": 4, "b": 16}
        assert (a.sink.standing.committed, b.sink.standing.committed) == (4, 16)
    scene.machine.transfer(scene.opened, "a")
    scene.expect()


def test_a_disk_that_stops_in_the_middle_is_opened_again_while_the_other_goes_on() -> None:
    scene = Scene({"a": 16, "b": 16})
    with scene.disk("b") as b:
        with scene.disk("a") as a:
            scene.send("a", a.sink, 0)
            scene.send("a", a.sink, 4)
            scene.offer("a", a.sink, 8)  # and never sent
            scene.send("b", b.sink, 0)
            a.sink.tend()
            entered = a.sink.standing.taken
        assert scene.done() == {"a": 0, "b": 0}
        with scene.disk("a") as a:
            # What it had entered was made durable before anything is said of it.
            assert a.sink.standing.taken == a.sink.standing.committed == entered == scene.done()["a"]
            scene.send("b", b.sink, 4)
            scene.copy("a", a.sink)
        scene.copy("b", b.sink)
    scene.expect()


def test_what_another_disk_has_brought_is_not_wanted_again() -> None:
    scene = Scene({"a": 8, "b": 8})
    scene.machine.disks["b"] = scene.machine.disks["a"].copy()
    with scene.disk("a") as a, scene.disk("b") as b:
        scene.send("a", a.sink, 0)
        body = scene.content("b", 0, 8)
        digests = piece_digests(body, b.sink.digest_key)
        while a.sink.standing.taken < 4:
            a.sink.tend()
        assert b.sink.offer(0, digests[:4]).result().slots == []
        scene.copy("a", a.sink)
        scene.copy("b", b.sink)
        assert b.sink.standing.transferred_bytes == 0
    scene.expect()


def test_what_is_promised_to_one_disk_is_not_believed_by_another() -> None:
    # The other one may never send it.
    scene = Scene({"a": 8, "b": 8})
    scene.machine.disks["b"] = scene.machine.disks["a"].copy()
    with scene.disk("b") as b:
        with scene.disk("a") as a:
            scene.offer("a", a.sink, 0)
            scene.send("b", b.sink, 0)
        scene.copy("b", b.sink)
        with scene.disk("a") as a:
            scene.copy("a", a.sink)
    scene.expect()


def test_the_growth_of_the_file_is_shared_out() -> None:
    scene = Scene({"a": 32, "b": 16}, EACH_UNIT)
    path = scene.machine.repository.chain_file(scene.opened.chain, scene.opened.file)
    before = len(scene.machine.repository.files.read(path))
    with scene.disk("a") as a:
        scene.send("a", a.sink, 0)
        with scene.disk("b") as b:
            scene.send("b", b.sink, 0)
            scene.send("a", a.sink, 4)
            scene.copy("b", b.sink)
            stored = [b.sink.standing.stored_bytes]
        scene.copy("a", a.sink)
        stored.append(a.sink.standing.stored_bytes)
        grown = len(scene.machine.repository.files.read(path)) - before
        assert sum(stored) == pytest.approx(grown, abs=PIECE_SIZE)
        assert [count // UNIT for count in stored] == [4, 8]
    scene.expect()


def test_growth_while_a_disk_was_away_is_not_its_own() -> None:
    scene = Scene({"a": 32, "b": 16}, EACH_UNIT)
    with scene.disk("a") as a:
        with scene.disk("b") as b:
            scene.send("b", b.sink, 0)
            b.sink.tend()
        for first in range(0, 32, 4):
            scene.send("a", a.sink, first)
        with scene.disk("b") as b:
            scene.copy("b", b.sink)
            assert b.sink.standing.stored_bytes // UNIT == 4
        scene.copy("a", a.sink)
    scene.expect()


def test_what_opening_a_disk_again_writes_is_not_taken_from_it_twice() -> None:
    scene = Scene({"a": 16, "b": 16})
    with scene.disk("b") as b:
        with scene.disk("a") as a:
            scene.send("a", a.sink, 0)
            while a.sink.standing.taken < PER_UNIT:
                a.sink.tend()
        with scene.disk("a") as a:
            stored = a.sink.standing.stored_bytes
            scene.send("b", b.sink, 0)
            while b.sink.standing.taken < PER_UNIT:
                b.sink.tend()
            assert a.sink.standing.stored_bytes == stored
            scene.copy("a", a.sink)
        scene.copy("b", b.sink)
    scene.expect()


def test_what_a_dead_writer_left_is_counted_once() -> None:
    scene = Scene({"a": 8, "b": 8})
    with scene.disk("a") as a, scene.disk("b") as b:
        scene.send("a", a.sink, 0)
        scene.send("b", b.sink, 0)
        while a.sink.standing.written + b.sink.standing.written < 2:
            a.sink.tend()
            b.sink.tend()
    with scene.disk("b") as b, scene.disk("a") as a:
        assert (b.sink.standing.resent_bytes, a.sink.standing.resent_bytes) == (2 * UNIT, 0)
        scene.copy("a", a.sink)
        scene.copy("b", b.sink)
    scene.expect()


def test_a_disk_has_one_writer() -> None:
    scene = Scene({"a": 8, "b": 8})
    with scene.disk("a") as a:
        with pytest.raises(ChainBusy, match=r"disk a in .* is being written by another session"), scene.disk("a"):
            pass
        with scene.disk("b") as b:
            scene.copy("b", b.sink)
        scene.copy("a", a.sink)
    scene.expect()


def test_another_process_finds_the_chain_busy() -> None:
    scene = Scene({"a": 8, "b": 8})
    with scene.disk("a") as a:
        held, scene.points = scene.points, OpenPoints()
        with pytest.raises(ChainBusy), scene.disk("b"):
            pass
        scene.points = held
        scene.copy("a", a.sink)
    with scene.disk("b") as b:
        scene.copy("b", b.sink)
    scene.expect()


def test_a_unit_that_does_not_decode_ends_its_own_disk_alone() -> None:
    scene = Scene({"a": 16, "b": 16}, EACH_UNIT)
    with scene.disk("b") as b:
        with scene.disk("a") as a:
            scene.send("a", a.sink, 0)
            unit = scene.offer("a", a.sink, 4)
            with pytest.raises(EncodingFailed):  # noqa: PT012 - at the one or the other
                a.sink.put(msgspec.structs.replace(unit, body_crc=unit.body_crc ^ 1))
                scene.send("b", b.sink, 0)
                scene.send("b", b.sink, 4)  # a commit, which finds the bad unit first
                a.sink.tend()
        scene.copy("b", b.sink)
        with scene.disk("a") as a:
            assert a.sink.standing.taken == 4
            scene.copy("a", a.sink)
    scene.expect()


def test_a_commit_that_fails_ends_every_disk_and_nothing_of_it_is_believed() -> None:
    scene = Scene({"a": 16, "b": 16}, EACH_UNIT)

    def fail(name: str) -> None:
        if name == "commit.before_flip":
            raise StoreFailed("the storage is gone")

    with scene.disk("a") as a, scene.disk("b") as b:
        scene.send("a", a.sink, 0)
        set_hook(fail)
        try:
            with pytest.raises(StoreFailed, match="storage is gone"):
                scene.copy("b", b.sink)
        finally:
            set_hook(None)
        with pytest.raises(ChainBusy, match="is let go of after a failure: the storage is gone"), scene.disk("b"):
            pass
        with pytest.raises(StoreFailed, match="storage is gone"):
            scene.copy("a", a.sink)
        assert (a.sink.standing.committed, b.sink.standing.committed) == (0, 0)
    assert scene.done() == {"a": 0, "b": 0}
    with scene.disk("a") as a, scene.disk("b") as b:
        scene.copy("a", a.sink)
        scene.copy("b", b.sink)
    scene.expect()


def test_a_disk_that_moved_begins_again_beside_another() -> None:
    scene = Scene({"a": 16, "b": 16}, EACH_UNIT)
    true = scene.machine.disks["a"]
    scene.machine.disks["a"] = true.copy()
    scene.machine.disks["a"].write(Span(0, 8 * PIECE_SIZE))
    with scene.disk("b", "[1]") as b:
        with scene.disk("a", "[1]") as a:
            for first in (0, 4, 8):
                scene.send("a", a.sink, first)
        scene.machine.disks["a"] = true
        scene.send("b", b.sink, 0)
        unit = scene.offer("b", b.sink, 4)
        with scene.disk("a", "[2]") as a:
            assert (a.moves, a.sink.standing.taken) == (1, 0)
            b.sink.put(unit)
            scene.copy("a", a.sink)
        scene.copy("b", b.sink)
    scene.expect()


@pytest.mark.parametrize("mode", [ReadMode.CHANGED, ReadMode.COMPARED])
def test_increments_of_many_disks_at_once_read_as_they_are(seed: int, mode: ReadMode) -> None:
    rng = random.Random(seed)
    machine = make_machine({"a": 40, "b": 7, "c": 1, "d": 23}, seed=seed % 1000)
    machine.pipe = msgspec.structs.replace(PIPE, commit_new_bytes=2 * UNIT, uncommitted_bytes_max=3 * UNIT)
    for _ in range(4):
        machine.back_up(mode, at_once=True)
        for disk in machine.disks.values():
            start = rng.randrange(disk.size_bytes // 512) * 512
            disk.write(Span(start, min(disk.size_bytes - start, 5 * PIECE_SIZE)))
            disk.zero(Span(rng.randrange(disk.size_bytes // PIECE_SIZE) * PIECE_SIZE, PIECE_SIZE))
    assert machine.differences() == []


def test_threads_that_run_as_they_like_disturb_nobody(seed: int) -> None:
    rng = random.Random(seed)
    sizes = {f"disk{number}": rng.randrange(1, 60) for number in range(6)}
    scene = Scene(sizes, PipeOptions(threads=1, commit_new_bytes=2 * UNIT, uncommitted_bytes_max=4 * UNIT))
    started = threading.Barrier(len(sizes))

    def copy(key: str) -> int:
        with scene.disk(key) as disk:
            started.wait(20)
            scene.copy(key, disk.sink)
            return disk.sink.standing.committed

    with ThreadPoolExecutor(len(sizes)) as pool:
        assert list(pool.map(copy, sizes)) == list(sizes.values())
    scene.expect()
