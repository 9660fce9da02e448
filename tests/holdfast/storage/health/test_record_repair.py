"""Machine files and notes that are damaged come back from wherever the same bytes are; see also tests/fuzz."""

import random
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.machine_files import MachineFile
from holdfast.model.points import PointSummary
from holdfast.model.spans import Span
from holdfast.storage.chain_files.tables import table_refs
from holdfast.storage.chains.chain import Chain
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health.chain_repair import ChainRepair
from holdfast.storage.health.folder import rebuild_file
from holdfast.storage.health.record_repair import RecordRepair, lost_records
from holdfast.storage.points.point_files import read_files
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.driving import back_up, restored
from tests.holdfast.storage.jobs import Job

NVRAM = MachineFile(name="web.nvram", content=random.Random(1).randbytes(3000))
OTHER = MachineFile(name="web.vmx", content=random.Random(2).randbytes(3000))
CONTENT = random.Random(3).randbytes(5 << 16)


@pytest.fixture
def files() -> CrashFiles:
    return CrashFiles([Path("/")])


@pytest.fixture
def repository(files: CrashFiles) -> Repository:
    return Repository.create(Path("/repository"), files, "id", SystemClock().now())


def spoil(files: CrashFiles, repository: Repository, point: PointSummary, what: str = "machine file") -> None:
    """Damage the first machine file of a point, or the notes or the map of its file."""
    with repository.open_chain(point.chain, None) as chain:
        file, found = chain.point(point.number)
        tables = {"notes": file.contents.notes.table, "map": found.disks[0].map}
        top = tables[what].top if what in tables else None
        ref = found.machine_files[0].ref.ref if top is None else top.ref
    data = bytearray(files.content(file.path))
    data[ref.offset + 84] ^= 4
    files.set_content(file.path, bytes(data))


def machine_files(repository: Repository, point: PointSummary) -> dict[str, bytes]:
    with repository.open_chain(point.chain, None) as chain:
        return {file.name: file.content for file in read_files(chain, point.number).files}


def test_another_point_with_the_same_machine_file_gives_it_back(files: CrashFiles, repository: Repository) -> None:
    first = back_up(repository, CONTENT, 1, None, [NVRAM, OTHER])
    # The next run stores what the machine still has, so that older points get it again, too.
    second = back_up(repository, CONTENT, 2, None, [NVRAM])
    assert first.chain == second.chain
    spoil(files, repository, first)
    assert set(machine_files(repository, first)) == {OTHER.name}
    report = ChainRepair(repository, first.chain, None).run()
    assert report.is_good
    assert report.files == (f"{first.chain}/{first.file}: {NVRAM.name}",)
    assert machine_files(repository, first) == {NVRAM.name: NVRAM.content, OTHER.name: OTHER.content}
    with repository.open_chain(first.chain, None) as chain:
        assert chain.point(first.number)[1].root == first.root
    assert ChainRepair(repository, first.chain, None).run().files == ()


def test_what_has_the_same_length_and_other_bytes_is_not_taken(files: CrashFiles, repository: Repository) -> None:
    point = back_up(repository, CONTENT, 1, None, [NVRAM, OTHER])
    spoil(files, repository, point)
    report = ChainRepair(repository, point.chain, None).run()
    assert (report.is_good, report.files) == (False, ())
    assert NVRAM.name in report.damages[0].disk or NVRAM.name in report.damages[0].reason


def test_a_chain_with_another_key_gives_back_the_same_bytes(files: CrashFiles, repository: Repository) -> None:
    point = back_up(repository, CONTENT, 1, None, [NVRAM])
    spoil(files, repository, point)
    theirs = Repository.create(Path("/theirs"), files, "other", SystemClock().now())
    same = back_up(theirs, CONTENT, 1, None, [NVRAM])
    with repository.open_chain(point.chain, None) as chain, theirs.open_chain(same.chain, None) as other:
        [file] = chain.files
        done = RecordRepair(files, chain, file, [other]).run(lost_records(file))
    assert (done.files, done.notes) == ((NVRAM.name,), 0)
    assert machine_files(repository, point) == {NVRAM.name: NVRAM.content}


def test_a_sound_file_has_lost_nothing(repository: Repository) -> None:
    point = back_up(repository, CONTENT, 1, None, [NVRAM])
    with Chain.open(repository.files, repository.chain_folder(point.chain)) as chain:
        [lost] = [lost_records(file) for file in chain.files]
    assert (lost.files, lost.notes) == ((), ())


def test_notes_that_are_made_anew_tell_of_pieces_that_share_a_place_and_of_zeros(
    files: CrashFiles, repository: Repository
) -> None:
    one, other, zeros = CONTENT[: 1 << 16], CONTENT[1 << 16 : 2 << 16], bytes(1 << 16)
    back_up(repository, one + other + one + one + zeros, 1, None)
    point = back_up(repository, other + other + zeros + one + one, 2, None)
    spoil(files, repository, point, "notes")
    report = ChainRepair(repository, point.chain, None).run()
    assert (report.is_good, report.notes) == (True, 1)
    # The file needs nothing but its records for a rebuild again.
    spoil(files, repository, point, "map")
    assert ChainRepair(repository, point.chain, None).run().rebuilt == (f"{point.chain}/{point.file}.damaged",)
    assert restored(repository, point, None) == other + other + zeros + one + one


def test_notes_that_are_made_anew_compare_a_machine_of_a_job_with_its_own_point(files: CrashFiles) -> None:
    job = Job(files)
    job.b.disks["disk0"].zero(Span(0, 7 * PIECE_SIZE))
    job.run()  # the newest point that the increment continues is of the other machine, and zeros
    job.a.disks["disk0"].zero(Span(0, 3 * PIECE_SIZE))
    made = job.a.back_up()
    folder = job.repository.chain_folder(made.chain)
    with job.repository.open_chain(made.chain, None) as chain:
        [ref, *_] = [ref for index, ref in table_refs(chain.files[1].store, chain.files[1].contents.notes.table)]
    handle = files.open(folder / made.file, write=True)
    handle.write(ref.offset, [bytes(ref.length)])
    handle.sync()
    handle.close()
    assert ChainRepair(job.repository, made.chain, None).run().notes == 1
    rebuild_file(files, folder, made.file, None)
    job.check()
