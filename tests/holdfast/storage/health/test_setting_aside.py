"""Increments that cannot be read are set aside with those behind them, and their numbers are not used again."""

import pytest

from holdfast.model.points import Health
from holdfast.storage.chains.metadata import check_chain
from holdfast.storage.health.health_file import read_health
from holdfast.storage.health.setting_aside import files_behind, highest_lost, highest_set_aside, set_aside
from holdfast.testing.crashfs import CrashFiles
from tests.fuzz.damage import SmallChain
from tests.holdfast.storage.jobs import Job

FULL, SECOND, THIRD = "00000001-full.hfc", "00000002-increment.hfc", "00000003-increment.hfc"


@pytest.fixture
def small() -> SmallChain:
    return SmallChain(7)


def test_what_goes_is_the_first_broken_increment_and_all_behind_it(small: SmallChain) -> None:
    assert files_behind(small.files, small.folder, []) == []
    assert files_behind(small.files, small.folder, [FULL]) == []
    assert files_behind(small.files, small.folder, [SECOND]) == [THIRD, SECOND]
    assert files_behind(small.files, small.folder, [THIRD]) == [THIRD]
    assert files_behind(small.files, small.folder, [FULL, THIRD]) == []


def test_files_get_another_name_and_their_points_are_missing(small: SmallChain) -> None:
    small.files.set_content(small.paths[1], b"nothing")
    small.files.create(small.folder / f"{SECOND}.damaged").close()
    set_aside(small.files, small.folder, None, [THIRD, SECOND])
    names = small.files.names(small.folder)
    assert {f"{THIRD}.damaged", f"{SECOND}.damaged", f"{SECOND}.damaged-2"} <= set(names)
    assert small.files.content(small.folder / f"{SECOND}.damaged-2") == b"nothing"
    marks = read_health(small.files, small.folder).points
    assert {mark.number: mark.state for mark in marks} == {2: Health.MISSING, 3: Health.MISSING}
    with small.open() as chain:
        check_chain(small.files, chain)
        assert [point.number for _, point in chain.points()] == [1]
    assert highest_set_aside(names) == 3
    assert highest_set_aside([FULL]) == 0
    set_aside(small.files, small.folder, None, [])


def test_the_number_of_a_removed_file_is_taken_while_it_can_be_taken_back() -> None:
    assert highest_set_aside([FULL, f"{THIRD}.removed-20261121T000000Z", f"{SECOND}.damaged-2"]) == 3


def test_all_points_of_a_file_that_machines_share_are_missing_and_their_numbers_taken(files: CrashFiles) -> None:
    job = Job(files)
    job.run()
    job.change()
    lost = job.run()
    folder = job.repository.chain_folder(lost[0].chain)
    files.set_content(folder / lost[0].file, b"nothing")
    set_aside(files, folder, None, [lost[0].file])
    marks = read_health(files, folder).points
    assert {mark.number: mark.state for mark in marks} == {3: Health.MISSING, 4: Health.MISSING}
    with job.repository.open_chain(lost[0].chain, None) as chain:
        check_chain(files, chain)
    assert highest_lost(files, folder) == 4
    for machine in job.machines:
        machine.rewind(1)
    assert [point.number for point in job.run()] == [5, 6]
    job.check()
