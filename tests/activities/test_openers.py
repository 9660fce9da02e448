"""The file of a point that is being written."""

import shutil

import pytest

from activities.openers import open_point_file
from holdfast.errors import PointNotFound, RepositoryUnavailable
from tests.activities.lab import STORE, Lab


def test_the_file_of_a_point_is_found(lab: Lab) -> None:
    point = lab.begun(lab.add_machine()).point
    repository, path = open_point_file(lab.open_repository, STORE, point)
    assert path == lab.chain_file(point)
    assert repository.files.exists(path)


def test_a_file_that_is_gone_is_told_from_a_repository_that_is_gone(lab: Lab) -> None:
    point = lab.begun(lab.add_machine()).point
    lab.chain_file(point).unlink()
    with pytest.raises(PointNotFound, match="is gone"):
        open_point_file(lab.open_repository, STORE, point)
    shutil.rmtree(lab.root / "repository")
    with pytest.raises(RepositoryUnavailable):
        open_point_file(lab.open_repository, STORE, point)
