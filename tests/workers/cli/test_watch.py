"""A session that was started elsewhere is followed to its end."""

import pytest

from holdfast.errors import SessionNotFound
from tests.workers.cli.place import Place


def test_without_a_catalog_a_session_id_means_nothing(place: Place) -> None:
    error = place.json("watch", "20250101", status=SessionNotFound.exit_status)["error"]
    assert "no job" in error["message"]


@pytest.mark.temporal
def test_a_detached_session_is_found_by_job_id_and_workflow(lab: Place) -> None:
    ids = lab.json("backup", "nightly", "--full", "--detach")
    for reference in ("nightly", ids["workflow_id"], ids["session_id"]):
        assert lab.json("watch", reference)["session"]["session_id"] == ids["session_id"]
