"""Write golden chains: chain files that every later version must read, with what must come out of them.

Usage: .venv/bin/python -m scripts.make_golden tests/golden/v1 [NAME ...]

Golden chains are only added. A chain that is there is never written again: its bytes are what an earlier version left
on somebody's storage. Everything random is drawn from the name of the chain, and the clock stands still.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from holdfast.formats.keys import PassphraseCost
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SessionId, SnapshotId
from holdfast.model.machine import Disk, Machine, PowerState, Snapshot, SnapshotDisk
from holdfast.model.machine_files import MachineFile
from holdfast.model.plan import PlanStep
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import changed_steps, whole_disk_steps
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import Chain, StoredDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_files import put_files
from holdfast.storage.points.point_writer import DiskPointWriter, open_disk
from scripts.golden_stories import Content, Story, drawn, stories

MANIFEST = "manifest.json"
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
COST = PassphraseCost(memory_kib=256, iterations=1, lanes=1)
NEVER = 1 << 50
FILES = HostFiles()


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


# ---------------------------------------------------------------------------------------------------- writing


@contextmanager
def fixed_randomness(seed: str) -> Iterator[None]:
    """Let everything that is drawn in the block follow from ``seed``."""
    with mock.patch.object(os, "urandom", drawn(seed)):
        yield


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
        if story.files[index : index + 1]:
            put_files(writer, opened.number, story.files[index])
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
                **_described_files(story.files[index : index + 1]),
            }
            for index, disks in enumerate(story.points)
        ],
    }


def _described_files(files: list[list[MachineFile]]) -> dict[str, Any]:
    return {"files": {file.name: sha256(file.content) for file in files[0]}} if files else {}


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
