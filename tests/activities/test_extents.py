"""Space facts of a repository's extents."""

import shutil

from activities.contracts.extents import GatherExtentFacts
from activities.extents import ExtentActivities
from holdfast.errors import RepositoryNotFound
from holdfast.model.extents import ExtentFacts
from holdfast.model.ids import RepositoryName
from tests.activities.lab import STORE, Lab, failure, run, run_twice


def activities(lab: Lab) -> ExtentActivities:
    return ExtentActivities(lab.open_repository, lab.clock)


def test_the_folder_is_the_only_extent_with_the_room_of_its_file_system(lab: Lab) -> None:
    (facts,) = run(activities(lab).gather_facts, GatherExtentFacts(repository=STORE)).extents
    assert (facts.name, facts.reachable, facts.problem) == (STORE, True, "")
    assert 0 < facts.free_bytes <= shutil.disk_usage(lab.root).total


def test_a_missing_folder_is_not_reachable_and_says_why(lab: Lab) -> None:
    shutil.rmtree(lab.repository.root)
    (facts,) = run_twice(activities(lab).gather_facts, GatherExtentFacts(repository=STORE)).extents
    assert facts == ExtentFacts(name=STORE, reachable=False, problem=facts.problem)
    assert str(lab.repository.root) in facts.problem


def test_an_unknown_repository_is_an_error(lab: Lab) -> None:
    failure(RepositoryNotFound, activities(lab).gather_facts, GatherExtentFacts(repository=RepositoryName("other")))
