"""The machines of a job join the file of their session, one after the other."""

import msgspec
import pytest

from holdfast.errors import ChainBusy
from holdfast.formats.contents import Point
from holdfast.formats.magic import PIECE_SIZE
from holdfast.model.ids import SessionId
from holdfast.planning.change_trust import lie_reason
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.intake.joining import add_point
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.jobs import Job


@pytest.mark.parametrize("passphrase", [None, "secret"])
def test_machines_of_a_job_share_the_file_of_their_session(files: CrashFiles, passphrase: str | None) -> None:
    job = Job(files, passphrase)
    a, b = job.run()
    assert (a.chain, a.file) == (b.chain, b.file)
    assert (a.number, b.number, a.kind, b.kind) == (1, 2, "full", "full")
    assert a.chain.split("/")[1].startswith("nightly-")
    job.change()
    a, b = job.run()
    assert (a.file, b.file, a.number, b.number) == ("00000003-increment.hfc", "00000003-increment.hfc", 3, 4)
    job.check()


def test_what_two_machines_have_in_common_is_stored_once(files: CrashFiles) -> None:
    job = Job(files)
    first = job.a.back_up()
    job.b.disks["disk0"] = job.a.disks["disk0"].copy()
    second = job.b.back_up()
    assert second.file_bytes - first.file_bytes < 2 * PIECE_SIZE
    job.check()


def test_a_new_machine_is_read_whole_into_an_increment(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    job.a.back_up()
    job.b.sessions = 1
    assert job.b.back_up().kind == "increment"
    assert _points(job)[-1].parent_root is None
    job.check()


def test_only_the_first_machine_of_a_session_begins_a_new_chain(files: CrashFiles) -> None:
    job = Job(files)
    job.run()
    for machine in job.machines:
        machine.store = msgspec.structs.replace(job.store, full=True)
    a, b = job.run()
    assert a.chain == b.chain != job.a.kept[0].summary.chain
    job.check()


def test_a_snapshot_that_was_taken_anew_begins_its_point_anew(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    job.half_written(job.b)
    again = msgspec.structs.replace(job.b.snapshot(), snapshot_id="another")
    job.b.snapshot = lambda: again  # type: ignore[method-assign]
    opened = job.b.begin()
    assert opened.number == 3
    job.b.transfer_all(opened)
    job.b.finish(opened)
    assert [point.number for point in _points(job)] == [1, 3]
    job.check()


def test_beginning_and_finishing_may_be_repeated(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    job.b.sessions = 1
    opened = job.b.begin()
    assert job.b.begin().point_id == opened.point_id
    job.b.transfer_all(opened)
    summary = job.b.finish(opened)
    assert job.b.finish(job.b.begin()) == summary
    job.check()


def test_a_machine_waits_while_another_one_writes(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    job.b.sessions = 1
    path = job.repository.chain_folder(job.a.kept[0].summary.chain) / "00000001-full.hfc"
    with ChainWriter.resume(files, path), pytest.raises(ChainBusy):
        job.b.begin()


def test_each_machine_keeps_its_own_chain_once_the_layout_is_switched(files: CrashFiles) -> None:
    job = Job(files)
    job.run()
    job.per_machine()
    job.change()
    a, b = job.run()
    assert a.chain != b.chain
    assert (a.kind, b.kind) == ("full", "full")
    for machine in job.machines:
        newest = machine.repository.find_point("latest", None, machine.name)
        assert newest.point.id == machine.kept[-1].summary.point_id
    job.check()


@pytest.mark.parametrize("is_own", [True, False])
def test_a_lie_of_the_tracking_casts_doubt_on_its_own_machine_alone(files: CrashFiles, *, is_own: bool) -> None:
    job = Job(files)
    job.a.back_up()
    machine = job.a if is_own else job.b
    opened = job.half_written(machine)
    machine.transfer_all(opened)
    with ChainWriter.resume(files, job.repository.chain_file(opened.chain, opened.file)) as writer:
        point = writer.contents.points[-1]
        told = tuple(msgspec.structs.replace(disk, detail=f"compared: {lie_reason(0)}") for disk in point.disks)
        mine = msgspec.structs.replace(point, disks=told)
        writer.contents = msgspec.structs.replace(writer.contents, points=(*writer.contents.points[:-1], mine))
        writer.commit()
    machine.finish(opened)
    with job.repository.open_chain(opened.chain, None) as chain:
        assert chain.disk(1, "disk0").is_doubted is is_own
    job.check()


def _points(job: Job) -> list[Point]:
    chain = job.a.kept[-1].summary.chain
    with job.repository.open_chain(chain, job.store.passphrase) as opened:
        return [point for _, point in opened.points()]


def test_no_point_joins_a_file_behind_which_another_one_came(files: CrashFiles) -> None:
    job = Job(files)
    first = job.a.back_up()
    with job.repository.open_chain(first.chain, None) as chain:
        job.a.back_up()
        session = SessionId(f"session-{job.a.sessions}")
        with pytest.raises(ChainBusy, match="got another file while a point joined 00000001-full"):
            add_point(files, chain.files[0], session, job.b.snapshot(), None)
    job.check()
