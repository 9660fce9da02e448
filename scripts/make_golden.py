"""Write golden chains: chain files that every later version must read, with what must come out of them.

Usage: .venv/bin/python -m scripts.make_golden tests/golden/v1 [NAME ...]

Golden chains are only added. A chain that is there is never written again: its bytes are what an earlier version left
on somebody's storage. Everything random is drawn from the name of the chain, and the clock stands still.
"""

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import msgspec

from holdfast.formats.keys import PassphraseCost
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.compression import Compression
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.plan import PlanStep
from holdfast.model.spans import Span, coalesce
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import changed_steps, whole_disk_steps
from holdfast.storage.atomic import HostFiles
from holdfast.storage.chain import Chain, StoredDisk
from holdfast.storage.chain_writer import ChainWriter
from holdfast.storage.intake import DiskIntake
from holdfast.storage.lifecycle import StoreOptions, begin_point, finish_point
from holdfast.storage.point_writer import DiskPointWriter, open_disk
from holdfast.storage.repository import Repository

MANIFEST = "manifest.json"
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
COST = PassphraseCost(memory_kib=256, iterations=1, lanes=1)
NEVER = 1 << 50
FILES = HostFiles()


class Content:
    """A disk: its size, and the pieces that are not zeros. It can be read as a source disk."""

    def __init__(self, size_bytes: int, pieces: dict[int, bytes]) -> None:
        self.size_bytes = size_bytes
        self.pieces = {
            number: data.ljust(PIECE_SIZE, b"\0")[: size_bytes - number * PIECE_SIZE]
            for number, data in sorted(pieces.items())
            if number * PIECE_SIZE < size_bytes and any(data)
        }

    def changed(self, pieces: dict[int, bytes], size_bytes: int | None = None) -> "Content":
        """Return the disk with some pieces replaced, and perhaps another size."""
        return Content(self.size_bytes if size_bytes is None else size_bytes, {**self.pieces, **pieces})

    def differing_spans(self, other: "Content") -> Iterator[Span]:
        """Yield a sector of every piece that differs: what a provider reports need not be whole pieces."""
        for number in sorted({*self.pieces, *other.pieces}):
            if self.pieces.get(number) != other.pieces.get(number):
                yield Span(number * PIECE_SIZE, 512)

    def allocated_spans(self) -> Iterator[Span]:
        """Yield what is not zeros."""
        yield from coalesce(Span(number * PIECE_SIZE, len(data)) for number, data in self.pieces.items())

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset``, a multiple of 64 KiB."""
        for at in range(0, len(buffer), PIECE_SIZE):
            part = buffer[at : at + PIECE_SIZE]
            part[:] = self.pieces.get((offset + at) // PIECE_SIZE, b"").ljust(len(part), b"\0")

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def __enter__(self) -> Self:
        """Enter a block that needs a disk which can be closed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the block."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A golden chain: how it is written, and the machine's disks at each point."""

    name: str
    unit_size: int
    compression: Compression
    points: list[dict[str, Content]]
    passphrase: str | None = None
    cut: int | None = None
    """Chunks after which the last disk of the last point stops; None when all points are finished."""

    @property
    def machine_id(self) -> str:
        """Return the id of the machine."""
        return f"golden-{self.name}"


class StandingClock:
    """A clock that stands still, so that commits do not depend on how fast the host is."""

    def now(self) -> datetime:
        """Return noon."""
        return NOON

    def monotonic_s(self) -> float:
        """Return zero."""
        return 0.0


class _CutOff(Exception):
    pass


# ---------------------------------------------------------------------------------------------------- the stories


def text(label: str) -> bytes:
    """Return a piece that compresses well."""
    return (f"golden piece {label} ".encode().ljust(63, b".") + b"\n") * (PIECE_SIZE // 64)


def noise(label: str) -> bytes:
    """Return a piece that does not compress."""
    return _drawn(f"noise {label}")(PIECE_SIZE)


def stories() -> list[Story]:
    """Return every golden chain of this version."""
    return [_plain_zstd(), _plain_lz4(), _plain_none(), _encrypted_zstd(), _encrypted_lz4(), _sparse()]


def _plain_zstd() -> Story:
    """Make two increments: zeroed pieces, equal pieces in one and in two files, a tail of one sector."""
    first = {number: text(f"{number}") for number in (0, 1, 2, *range(20, 26))}
    disk = Content(
        39 * PIECE_SIZE + 512, {**first, 5: noise("zstd"), 7: first[0], 11: first[0], 39: b"tail of one sector"}
    )
    second = disk.changed({1: text("1b"), 2: b"", 20: b"", 21: b"", 22: text("1b"), 30: text("30"), 31: first[0]})
    third = second.changed({2: text("2c"), 5: b"", 8: text("8c"), 9: text("8c"), 30: text("30c"), 39: b"new tail"})
    return Story(
        name="plain-zstd",
        unit_size=256 << 10,
        compression=Compression.ZSTD_1,
        points=[{"scsi0:0": disk}, {"scsi0:0": second}, {"scsi0:0": third}],
    )


def _plain_lz4() -> Story:
    """Share pieces between disks, keep one of zeros alone; the increment adds a third, lets the second go."""
    system = Content(24 * PIECE_SIZE, {number: text(f"system {number % 19}") for number in range(22)})
    empty = Content(1 << 20, {})
    added = Content(3 * PIECE_SIZE + 1024, {0: text("system 3"), 2: text("added"), 3: b"end"})
    return Story(
        name="plain-lz4",
        unit_size=1 << 20,
        compression=Compression.LZ4,
        points=[
            {"scsi0:0": system, "scsi0:1": empty},
            {"scsi0:0": system.changed({0: text("boot"), 23: text("last")}), "datastore/päge 2": added},
        ],
    )


def _plain_none() -> Story:
    """Compress nothing."""
    disk = Content(6 * PIECE_SIZE, {number: text(f"raw {number}") for number in range(5)})
    return Story(
        name="plain-none",
        unit_size=256 << 10,
        compression=Compression.NONE,
        points=[{"d0": disk}, {"d0": disk.changed({3: text("raw 3b"), 4: b""})}],
    )


def _encrypted_zstd() -> Story:
    """Let a disk grow and shrink, both inside a piece."""
    disk = Content(9 * PIECE_SIZE + 4096, {**{number: text(f"e{number}") for number in range(9)}, 9: b"edge" * 1024})
    grown = disk.changed({4: noise("encrypted"), 9: b"edge" * 5000, 30: text("far")}, 31 * PIECE_SIZE)
    shrunk = grown.changed({9: b"edge" * 200}, 9 * PIECE_SIZE + 1024)
    return Story(
        name="encrypted-zstd",
        unit_size=1 << 20,
        compression=Compression.ZSTD_9,
        passphrase="correct horse battery staple",  # noqa: S106 - it stands in the manifest
        points=[{"d0": disk}, {"d0": grown}, {"d0": shrunk}],
    )


def _encrypted_lz4() -> Story:
    """Cut off the increment in the middle of the second disk."""
    left = Content(130 * PIECE_SIZE, {number: text(f"left {number}") for number in range(130) if number % 10})
    right = Content(200 * PIECE_SIZE, {number: text(f"right {number}") for number in range(3, 200, 30)})
    odd = {number: text(f"odd {number}") for number in range(1, 200, 12)}
    return Story(
        name="encrypted-lz4",
        unit_size=4 << 20,
        compression=Compression.LZ4,
        passphrase="pässword with ümlauts",  # noqa: S106 - it stands in the manifest
        points=[
            {"left": left, "right": right},
            {"left": left.changed({2: text("left 2b"), 4: b""}), "right": right.changed(odd)},
        ],
        cut=9,
    )


def _sparse() -> Story:
    """Fill tables of more than one page: a disk of a little over 4 GiB."""
    disk = Content(65540 * PIECE_SIZE + 512, {0: text("s0"), 65535: text("s1"), 65536: text("s2"), 65540: b"end"})
    return Story(
        name="sparse",
        unit_size=512 << 10,
        compression=Compression.ZSTD_3,
        points=[{"d0": disk}, {"d0": disk.changed({1024: text("s3"), 65535: b"", 65537: text("s0")})}],
    )


# ---------------------------------------------------------------------------------------------------- writing


@contextmanager
def fixed_randomness(seed: str) -> Iterator[None]:
    """Let everything that is drawn in the block follow from ``seed``."""
    with mock.patch.object(os, "urandom", _drawn(seed)):
        yield


def _drawn(seed: str) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes  # noqa: S311 - golden bytes follow from a name


def write_chain(story: Story, folder: Path) -> None:
    """Write the files of a chain into a new folder."""
    with tempfile.TemporaryDirectory() as scratch, fixed_randomness(f"golden chain {story.name}"):
        repository = Repository.create(Path(scratch) / "repository", FILES, "0" * 32, NOON)
        for index in range(len(story.points)):
            _write_point(repository, story, index)
        [written] = repository.chain_folders()
        folder.mkdir(parents=True)
        for path in written.iterdir():
            if path.suffix in {".hfc", ".hfm"}:
                shutil.copyfile(path, folder / path.name)


def _write_point(repository: Repository, story: Story, index: int) -> None:
    disks = story.points[index]
    options = StoreOptions(unit_size=story.unit_size, passphrase=story.passphrase, passphrase_cost=COST)
    opened = begin_point(repository, SessionId(f"session-{index + 1}"), _snapshot(story, index), options)
    chain_folder = repository.chain_folder(opened.chain)
    is_cut = story.cut is not None and index == len(story.points) - 1
    with (
        ChainWriter.resume(FILES, chain_folder / opened.file, story.passphrase) as writer,
        Chain.open(FILES, chain_folder, story.passphrase) as chain,
    ):
        for key, content in disks.items():
            before = story.points[index - 1].get(key) if index else None
            parent = None if before is None else chain.disk(opened.number - 1, key)
            cut = story.cut if is_cut and key == list(disks)[-1] else None
            _write_disk(writer, story, (opened.number, key, parent), _steps(before, content), content, cut)
    if not is_cut:
        finish_point(repository, opened, story.passphrase)


def _steps(before: Content | None, content: Content) -> Iterable[PlanStep]:
    if before is None:
        return whole_disk_steps(content.allocated_spans(), content.size_bytes, PIECE_SIZE)
    sizes = before.size_bytes, content.size_bytes
    changed = (span for span in before.differing_spans(content) if span.start < content.size_bytes)
    return changed_steps(changed, content.allocated_spans(), sizes, PIECE_SIZE)


def _write_disk(  # noqa: PLR0913, PLR0917 - what a transfer is told
    writer: ChainWriter,
    story: Story,
    place: tuple[int, str, StoredDisk | None],
    steps: Iterable[PlanStep],
    content: Content,
    cut: int | None,
) -> None:
    sink = open_disk(writer, *place)
    due = NEVER if cut is None else 0
    options = PipeOptions(
        compression=story.compression, in_flight_bytes=0, commit_new_bytes=due, uncommitted_bytes_max=NEVER
    )
    copy = DiskCopy(content, DiskIntake(sink, StandingClock(), options), StandingClock(), options)
    try:
        copy.run(steps, (lambda _: None) if cut is None else _cutter(sink, cut))
    except _CutOff:
        assert sink.cursor < sink.pieces


def _cutter(sink: DiskPointWriter, chunks: int) -> Callable[[PipeProgress], None]:
    """Return a report function that waits for the commit after each chunk and stops the pipe after some."""
    left = chunks

    def report(_: PipeProgress) -> None:
        nonlocal left
        sink.writer.finish_commit()
        left -= 1
        if left <= 0 and sink.cursor:
            raise _CutOff

    return report


def _snapshot(story: Story, index: int) -> Snapshot:
    disks = story.points[index]
    machine = Machine(
        machine_id=MachineId(story.machine_id),
        name=f"Golden {story.name}",
        power=PowerState.ON,
        disks=tuple(Disk(key=DiskKey(key), size_bytes=disk.size_bytes) for key, disk in disks.items()),
        configuration={"memory": "4 GiB", "cpus": "2"},
    )
    return Snapshot(
        snapshot_id=SnapshotId(f"snapshot-{index + 1}"),
        machine_id=machine.machine_id,
        tag="golden",
        created=NOON + timedelta(days=index),
        disks=tuple(
            SnapshotDisk(key=disk.key, size_bytes=disk.size_bytes, change_id=ChangeId(f"{index + 1}"))
            for disk in machine.disks
        ),
        machine=machine,
    )


# ---------------------------------------------------------------------------------------------------- the manifest


def describe(story: Story, folder: Path) -> dict[str, Any]:
    """Return what the manifest says of a chain."""
    complete = len(story.points) - (story.cut is not None)
    return {
        "passphrase": story.passphrase,
        "machine": story.machine_id,
        "unit_size": story.unit_size,
        "files": {path.name: sha256(path.read_bytes()) for path in sorted(folder.iterdir())},
        "points": [
            {
                "number": index + 1,
                "complete": index < complete,
                "disks": {
                    key: {"size": disk.size_bytes, "spans": list(_described_spans(disk))} for key, disk in disks.items()
                },
            }
            for index, disks in enumerate(story.points)
        ],
    }


def _described_spans(disk: Content) -> Iterator[list[int | str]]:
    for span in disk.allocated_spans():
        data = bytearray(span.length)
        disk.read_into(span.start, memoryview(data))
        yield [span.start, span.length, sha256(data)]


def sha256(data: bytes | bytearray) -> str:
    """Return the digest as text."""
    return hashlib.sha256(data).hexdigest()


def main(arguments: list[str]) -> None:
    """Write the chains that are not there yet and enter them into the manifest."""
    if not arguments:
        sys.exit("usage: python -m scripts.make_golden FOLDER [NAME ...]")
    root, wanted = Path(arguments[0]), set(arguments[1:])
    path = root / MANIFEST
    manifest = json.loads(path.read_text()) if path.exists() else {}
    for story in stories():
        if wanted and story.name not in wanted:
            continue
        if (root / story.name).exists():
            print(f"{story.name}: there already, left as it is")
            continue
        write_chain(story, root / story.name)
        manifest[story.name] = describe(story, root / story.name)
        print(f"{story.name}: written")
    path.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
