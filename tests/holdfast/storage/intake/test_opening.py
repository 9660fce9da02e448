"""A disk of an unfinished point is opened where its last commit left it, or at its start when it has moved."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from holdfast.errors import ChainBusy, DiskMoved, DiskNotFound, PointNotFound, RepositoryUnavailable
from holdfast.formats.contents import PointDisk
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import DiskKey, SessionId
from holdfast.model.machine import PowerState
from holdfast.model.points import OpenPoint
from holdfast.pipeline.backup import DiskCopy
from holdfast.pipeline.sink import WritableDisk
from holdfast.pipeline.stages import PipeOptions, PipeProgress
from holdfast.planning.read_plan import whole_disk_steps
from holdfast.storage.chains.repository import Repository
from holdfast.storage.files.atomic import HostFiles
from holdfast.storage.intake.finishing import finish_point
from holdfast.storage.intake.lifecycle import StoreOptions, begin_point
from holdfast.storage.intake.opening import MOVES_MAX, DiskOpener, DiskPlace, moved
from holdfast.testing.memory import MemoryDisk
from tests.holdfast.storage.driving import CHEAP, CLOCK, KEY, back_up, restored, snapshot_of

PIECES = 40
UNIT = 256 << 10
CONTENT = random.Random(1).randbytes(PIECES * PIECE_SIZE)
OTHER = random.Random(2).randbytes(PIECES * PIECE_SIZE)
EAGER = PipeOptions(
    threads=1, in_flight_bytes=2 * UNIT, commit_new_bytes=UNIT, uncommitted_bytes_max=UNIT, commit_interval_s=0
)
PASSPHRASE = "correct horse"


class Stopped(Exception):
    """The reader was stopped."""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "r", HostFiles(), "id", CLOCK.now())


def begin(repository: Repository, number: int = 1, passphrase: str | None = None) -> OpenPoint:
    options = StoreOptions(unit_size=UNIT, passphrase=passphrase, passphrase_cost=CHEAP)
    return begin_point(repository, SessionId(f"session-{number}"), snapshot_of(CONTENT, number), options)


def place_of(point: OpenPoint, lies_at: str = "", disk: str = KEY) -> DiskPlace:
    return DiskPlace(
        chain=point.chain,
        file=point.file,
        number=point.number,
        parent_number=point.parent_number,
        disk=disk,
        lies_at=lies_at,
    )


@contextmanager
def opened(repository: Repository, place: DiskPlace, passphrase: str | None = None) -> Iterator[WritableDisk]:
    with ExitStack() as stack:
        yield DiskOpener(repository, passphrase, CLOCK, EAGER).open(place, stack)


def copy(disk: WritableDisk, content: bytes = CONTENT, *, stop_at: int = PIECES) -> None:
    """Copy the whole disk, or stop once so many pieces are committed."""

    def report(progress: PipeProgress) -> None:
        if stop_at < PIECES and progress.committed_bytes >= stop_at * PIECE_SIZE:
            raise Stopped

    reader = MemoryDisk(content)
    steps = whole_disk_steps(reader.allocated_spans(), len(content), PIECE_SIZE)
    DiskCopy(reader, disk.sink, CLOCK, EAGER).run(steps, report)


def start(repository: Repository, place: DiskPlace, content: bytes = CONTENT) -> int:
    """Commit the first pieces of a disk and stop; return how often it had moved."""
    with opened(repository, place) as disk:
        with pytest.raises(Stopped):
            copy(disk, content, stop_at=4)
        return disk.moves


def committed(repository: Repository, point: OpenPoint) -> PointDisk:
    """Return the disk as it is stored."""
    with repository.open_chain(point.chain, None) as chain:
        [found] = [found for _, found in chain.points() if found.number == point.number]
    disk = found.disk(KEY)
    assert disk is not None
    return disk


def test_a_disk_of_a_first_point_has_no_parent(repository: Repository) -> None:
    point = begin(repository)
    with opened(repository, place_of(point)) as disk:
        assert (disk.machine, disk.at_rest, disk.moves, disk.earlier) == ("web 01", True, 0, None)
        assert (disk.sink.size_bytes, disk.sink.standing.taken) == (len(CONTENT), 0)
        copy(disk)
    assert restored(repository, finish_point(repository, point, None), None) == CONTENT


def test_a_machine_that_runs_is_not_at_rest(repository: Repository) -> None:
    snapshot = snapshot_of(CONTENT, 1)
    machine = msgspec.structs.replace(snapshot.machine, power=PowerState.ON)
    snapshot = msgspec.structs.replace(snapshot, machine=machine)
    point = begin_point(repository, SessionId("s"), snapshot, StoreOptions(unit_size=UNIT))
    with opened(repository, place_of(point)) as disk:
        assert not disk.at_rest


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_disk_of_an_increment_has_its_parent_at_hand(repository: Repository, passphrase: str | None) -> None:
    first = begin(repository, 1, passphrase)
    with opened(repository, place_of(first), passphrase) as disk:
        copy(disk)
    finish_point(repository, first, passphrase)
    second = begin(repository, 2, passphrase)
    assert second.parent_number == 1
    with opened(repository, place_of(second), passphrase) as disk:
        assert disk.earlier is not None
        assert disk.earlier.size_bytes == len(CONTENT)
        copy(disk, OTHER)
    assert restored(repository, finish_point(repository, second, passphrase), passphrase) == OTHER


def test_a_disk_goes_on_where_its_last_commit_left_it(repository: Repository) -> None:
    point = begin(repository)
    start(repository, place_of(point, "[a]"))
    before = committed(repository, point).done
    assert before >= 4
    with opened(repository, place_of(point, "[a]")) as disk:
        assert (disk.sink.standing.taken, disk.moves) == (before, 0)
        copy(disk)
    assert restored(repository, finish_point(repository, point, None), None) == CONTENT


def test_a_disk_that_moved_begins_again(repository: Repository) -> None:
    point = begin(repository)
    start(repository, place_of(point, "[a]"), OTHER)
    with opened(repository, place_of(point, "[b]")) as disk:
        assert (disk.sink.standing.taken, disk.moves) == (0, 1)
        copy(disk)
    assert restored(repository, finish_point(repository, point, None), None) == CONTENT


def test_a_move_before_anything_was_committed_does_not_count(repository: Repository) -> None:
    point = begin(repository)
    with opened(repository, place_of(point, "[a]")):
        pass
    with opened(repository, place_of(point, "[b]")) as disk:
        assert disk.moves == 0


def test_a_disk_that_goes_on_moving_is_given_up(repository: Repository) -> None:
    point = begin(repository)
    for number in range(MOVES_MAX + 1):
        moves = start(repository, place_of(point, f"[{number}]"))
        assert moves == number
    last = r"moved from \[2\] to \[3\] while it was copied, for the third time"
    with pytest.raises(DiskMoved, match=last) as caught, opened(repository, place_of(point, "[3]")):
        pass
    assert caught.value.is_last
    assert not moved("d", "[a]", "[b]", 0).is_last


def test_a_chain_has_one_writer(repository: Repository) -> None:
    point = begin(repository)
    with opened(repository, place_of(point)), pytest.raises(ChainBusy), opened(repository, place_of(point)):
        pass
    with opened(repository, place_of(point)):
        pass


def test_what_is_not_there_is_told_apart(repository: Repository) -> None:
    point = begin(repository)
    with pytest.raises(DiskNotFound, match="has no disk other"), opened(repository, place_of(point, disk="other")):
        pass
    absent = msgspec.structs.replace(place_of(point), file="00000007-full.hfc")
    with pytest.raises(PointNotFound, match="file 00000007-full"), opened(repository, absent):
        pass
    number = msgspec.structs.replace(place_of(point), number=9)
    with pytest.raises(DiskNotFound, match="point 9 of chain"), opened(repository, number):
        pass
    with opened(repository, place_of(point)):
        pass  # whatever failed has let go of the chain


def test_a_mount_that_is_gone_is_no_point_that_is_gone(repository: Repository) -> None:
    point = begin(repository)
    repository.root.rename(repository.root.with_name("elsewhere"))
    with pytest.raises(RepositoryUnavailable), opened(repository, place_of(point)):
        pass


def test_a_new_disk_of_a_machine_has_no_parent(repository: Repository) -> None:
    back_up(repository, CONTENT, 1, None)
    snapshot = snapshot_of(CONTENT, 2)
    new = DiskKey("new")
    machine = snapshot.machine
    disks = (*machine.disks, msgspec.structs.replace(machine.disks[0], key=new))
    snapshot = msgspec.structs.replace(
        snapshot,
        machine=msgspec.structs.replace(machine, disks=disks),
        disks=(*snapshot.disks, msgspec.structs.replace(snapshot.disks[0], key=new)),
    )
    point = begin_point(repository, SessionId("second"), snapshot, StoreOptions(unit_size=UNIT))
    assert point.parent_number == 1
    with opened(repository, place_of(point, disk=new)) as disk:
        assert disk.earlier is None
    with opened(repository, place_of(point)) as disk:
        assert disk.earlier is not None
