"""A disk that is begun again in the middle holds what the last pass read, and nothing of the one before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import SessionId
from holdfast.model.points import OpenPoint, PointSummary
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chain_files import known_pieces
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.chain import StoredDisk
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.health.folder import rebuild_file, verify_folder
from holdfast.storage.intake.beginning_again import begin_again
from holdfast.storage.intake.disk_intake import DiskIntake
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.points.point_writer import open_disk
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.storage.driving import CLOCK, KEY, back_up, make_content, restored, snapshot_of

PIECES = 40
UNIT = 256 << 10
EAGER = PipeOptions(
    threads=1, in_flight_bytes=2 * UNIT, commit_new_bytes=UNIT, uncommitted_bytes_max=UNIT, commit_interval_s=0
)


class Stopped(Exception):
    """The source moved."""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())


def begun(repository: Repository, number: int) -> OpenPoint:
    snapshot = snapshot_of(bytes(PIECES * PIECE_SIZE), number)
    return begin_point(repository, SessionId(f"session-{number}"), snapshot, StoreOptions(unit_size=UNIT))


@contextmanager
def opened(repository: Repository, point: OpenPoint) -> Iterator[tuple[ChainWriter, StoredDisk | None]]:
    path = repository.chain_file(point.chain, point.file)
    with repository.open_chain(point.chain, None) as chain, ChainWriter.resume(repository.files, path) as writer:
        yield writer, None if point.parent_number is None else chain.disk(point.parent_number, KEY)


def copy(repository: Repository, point: OpenPoint, content: bytes, *, stop_at: int = PIECES, again: str = "") -> int:
    """Copy until so many pieces are committed; return how many bytes were stored. ``again``: from the start."""
    with opened(repository, point) as (writer, parent):
        former = None
        if again:
            found = writer.contents.points[0].disk(KEY)
            assert found is not None
            former = begin_again(writer, point.number, found, again)
        sink = open_disk(writer, point.number, KEY, parent)
        before = sink.transferred_bytes
        reader = MemoryDisk(content)

        def report(progress: PipeProgress) -> None:
            if progress.committed_bytes >= stop_at * PIECE_SIZE:
                raise Stopped

        steps = whole_disk_steps(reader.allocated_spans(), len(content), PIECE_SIZE)
        with suppress(Stopped):
            intake = DiskIntake(sink, CLOCK, EAGER, former)
            DiskCopy(reader, intake, CLOCK, EAGER).run(steps, report if stop_at < PIECES else lambda _: None)
        return sink.transferred_bytes - before


def expect(repository: Repository, point: PointSummary, content: bytes) -> None:
    """The point holds the content, also after the file was rebuilt from its records, and after that once more."""
    folder = repository.chain_folder(point.chain)
    assert restored(repository, point, None) == content
    assert verify_folder(repository.files, folder, None, lambda _: None).is_good
    for _ in range(2):
        path = folder / point.file
        with path.open("r+b") as file:
            file.write(bytes(8192))
        report = rebuild_file(repository.files, folder, point.file, None)
        repository.files.remove(folder / report.kept_as)
        assert restored(repository, point, None) == content
        assert verify_folder(repository.files, folder, None, lambda _: None).is_good


@pytest.mark.parametrize("has_parent", [False, True], ids=["full", "increment"])
@pytest.mark.parametrize("stop_at", [8, 20, PIECES])
def test_the_point_holds_what_the_second_pass_read(
    repository: Repository, seed: int, stop_at: int, *, has_parent: bool
) -> None:
    rng = random.Random(seed)
    parent = make_content(rng, PIECES)
    if has_parent:
        back_up(repository, bytes(parent), 0, None)
    # Pieces that the first pass found otherwise than they are: some are as at the parent point, some zeros, some new.
    true = bytearray(parent)
    for piece in rng.sample(range(PIECES), 12):
        true[piece * PIECE_SIZE : (piece + 1) * PIECE_SIZE] = make_content(rng, 1)
    torn = bytearray(true)
    for piece in rng.sample(range(PIECES), 15):
        torn[piece * PIECE_SIZE : (piece + 1) * PIECE_SIZE] = make_content(rng, 1)
    point = begun(repository, 1)
    copy(repository, point, bytes(torn), stop_at=stop_at)
    copy(repository, point, bytes(true), stop_at=PIECES // 2, again="there")
    copy(repository, point, bytes(true))
    expect(repository, finish_point(repository, point, None), bytes(true))


def test_it_may_be_begun_again_more_than_once(repository: Repository, seed: int) -> None:
    rng = random.Random(seed)
    point = begun(repository, 1)
    for place in ("", "there", "back again"):
        copy(repository, point, bytes(make_content(rng, PIECES)), again=place)
    with repository.open_chain(point.chain, None) as chain:
        [(_, found)] = chain.points()
        disk = found.disk(KEY)
        assert disk is not None
        assert disk.moves == 2
    true = bytes(make_content(rng, PIECES))
    copy(repository, point, true, again="home")
    expect(repository, finish_point(repository, point, None), true)


def test_what_is_stored_already_is_not_stored_again(
    repository: Repository, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_pieces, "_GENERATION_SIZE", 4)  # so that the window does not reach back
    content = random.Random(seed).randbytes(PIECES * PIECE_SIZE)
    point = begun(repository, 1)
    assert copy(repository, point, content) >= len(content)
    assert copy(repository, point, content, again="there") == 0
    expect(repository, finish_point(repository, point, None), content)


def test_a_process_that_dies_behind_the_beginning_goes_on_from_there(repository: Repository, seed: int) -> None:
    rng = random.Random(seed)
    point = begun(repository, 1)
    copy(repository, point, bytes(make_content(rng, PIECES)))
    true = bytes(make_content(rng, PIECES))
    with opened(repository, point) as (writer, _):
        found = writer.contents.points[0].disk(KEY)
        assert found is not None
        begin_again(writer, point.number, found, "there")
    with opened(repository, point) as (writer, parent):
        sink = open_disk(writer, point.number, KEY, parent)
        assert sink.cursor == 0
        assert not sink.is_done
    copy(repository, point, true)
    expect(repository, finish_point(repository, point, None), true)
