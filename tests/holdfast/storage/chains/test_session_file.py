"""The machines of a job share the file of their session, one after the other; one that fails leaves no trace."""

import random

import pytest

from holdfast.errors import ChainBroken, SyncFailed
from holdfast.faults import set_hook
from holdfast.formats.contents import Point
from holdfast.storage.chain_files.chain_file import ChainFile
from holdfast.storage.chain_files.chain_writer import ChainWriter
from holdfast.storage.chains.session_file import drop_unfinished
from holdfast.storage.intake.lifecycle import chain_problem
from holdfast.testing.crash_states import crash_states
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.intake.test_finishing import Died, die_at
from tests.holdfast.storage.jobs import OWNER, Job


def test_a_finished_point_can_be_read_while_the_next_machine_writes(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    with job.repository.open_chain(job.a.kept[0].summary.chain, None) as reading:
        disk = reading.disk(1, "disk0")
        for turn in range(4):  # each would use the space that an earlier commit has left
            job.half_written(job.b)
            job.b.sessions -= turn < 3
        assert bytes(disk.piece_digests(0, disk.pieces)) == bytes(disk.piece_digests(0, disk.pieces))
        fresh = reading.disk(1, "disk1")
        assert fresh.piece_digests(0, fresh.pieces)
        assert job.a.differences() == []
    assert job.b.finish(job.b.begin()).number == 2
    job.check()


def test_a_machine_that_fails_leaves_its_part_out_and_the_others_stay(files: CrashFiles) -> None:
    job = Job(files)
    job.run()
    job.change()
    job.a.back_up()
    job.half_written(job.b)
    assert job.abandon(job.b) == ()
    assert job.abandon(job.b) == ()
    assert [point.number for point in _points(job)] == [1, 2, 3]
    job.check()
    job.change(2)
    a, b = job.run()
    assert (a.number, b.number) == (5, 6)
    assert [point.parent_root for point in _points(job)][-2:] == [
        job.a.kept[1].summary.root,
        job.b.kept[0].summary.root,
    ]
    job.check()


def test_a_machine_that_fails_first_takes_its_file_along(files: CrashFiles) -> None:
    job = Job(files)
    job.run()
    job.change()
    job.half_written(job.a)
    assert job.abandon(job.a) == ("00000003-increment.hfc",)
    assert job.b.back_up().number == 3
    job.check()


def test_a_failed_flush_takes_no_finished_point_along(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    opened = job.half_written(job.b)
    path = job.repository.chain_file(opened.chain, opened.file)
    with ChainFile.open(files, path) as file:
        assert not file.is_complete
        assert file.complete_slots == 0
    with ChainWriter.resume(files, path) as writer:
        files.fail_sync = lambda _number, _waiting: ()
        with pytest.raises(SyncFailed):
            writer.commit()
    assert files.exists(path)


def test_nothing_is_dropped_where_nothing_would_be_left(files: CrashFiles) -> None:
    job = Job(files)
    opened = job.half_written(job.a)
    path = job.repository.chain_file(opened.chain, opened.file)
    with ChainFile.open(files, path) as file:
        keys = file.keys
    with pytest.raises(ChainBroken, match="no finished point"):
        drop_unfinished(files, path, keys)


def test_a_file_of_a_job_that_was_rolled_back_is_not_settled(files: CrashFiles) -> None:
    job = Job(files)
    job.a.back_up()
    opened = job.half_written(job.b)
    path = job.repository.chain_file(opened.chain, opened.file)
    old = files.content(path)
    job.b.finish(opened)
    job.a.back_up()
    files.set_content(path, old)
    assert chain_problem(job.repository, OWNER, job.a.machine_id, None)
    job.b.sessions = 3
    with pytest.raises(ChainBroken):
        job.b.begin()


@pytest.mark.parametrize("name", ["joining.added", "session_file.dropped", "commit.before_flip", "commit.flipped"])
def test_whatever_dies_the_session_goes_on(files: CrashFiles, name: str) -> None:
    job = Job(files)
    job.run()
    job.change()
    job.a.back_up()

    def fail() -> None:
        job.half_written(job.b)
        job.abandon(job.b)

    die_at(name)
    try:
        with pytest.raises(Died):
            fail()
    finally:
        set_hook(None)
    job.b.sessions = 2
    opened = job.b.begin()
    job.b.transfer_all(opened)
    job.b.finish(opened)
    job.check()


@pytest.mark.parametrize("ends_with", ["finish", "abandon"])
def test_every_crash_while_the_second_machine_writes_leaves_the_first_and_lets_the_next_session_run(
    files: CrashFiles, ends_with: str
) -> None:
    job = Job(files)
    job.run()
    job.change()
    job.a.back_up()
    base, begun = files.copy(), len(files.events)
    opened = job.half_written(job.b)
    if ends_with == "finish":
        job.b.transfer_all(opened)
        job.b.finish(opened)
    else:
        job.abandon(job.b)
    rng = random.Random(7)
    states = list(crash_states(base, files.events[begun:], rng))
    for state in rng.sample(states, min(len(states), 60)):
        after = job.restarted(state.files())
        if not _has(after, after.b.kept[-1].summary.point_id):
            after.b.rewind(1)
        after.change(3)
        after.a.sessions = after.b.sessions = 9
        after.run()
        after.check()


def _points(job: Job) -> list[Point]:
    chain = job.a.kept[-1].summary.chain
    with job.repository.open_chain(chain, job.store.passphrase) as opened:
        return [point for _, point in opened.points()]


def _has(job: Job, point_id: str) -> bool:
    return any(found.point.id == point_id and found.point.complete for found in job.repository.points())
