"""The doctor says what is wrong, what to do, and ends with the status of the first failure."""

import pytest

from holdfast.errors import ConfigurationInvalid, ServerUnavailable
from tests.workers.cli.place import Place


def test_without_a_server_it_fails_and_says_how_to_start_one(place: Place) -> None:
    place.add_machine("web", 1)
    document = place.json("doctor", status=ServerUnavailable.exit_status)
    failed = [finding for finding in document["findings"] if finding["level"] == "fail"]
    assert [finding["check"] for finding in failed] == ["temporal"]
    assert "holdfast dev" in failed[0]["hint"]
    assert document["error"]["code"] == "server-unavailable"
    result = place.run("doctor")
    assert "fail  temporal" in result.stdout
    assert not result.stderr


def test_a_broken_configuration_ends_it_early(place: Place) -> None:
    place.config.write_text("x = 1")
    document = place.json("doctor", status=ConfigurationInvalid.exit_status)
    assert [finding["check"] for finding in document["findings"]] == ["configuration"]


@pytest.mark.temporal
def test_with_everything_running_nothing_fails(lab: Place) -> None:
    findings = {finding["check"]: finding["level"] for finding in lab.json("doctor")["findings"]}
    assert "fail" not in findings.values()
    assert findings["temporal"] == findings["queue proxy.p1.transfer"] == findings["repository main"] == "ok"
    assert "ok    queue control" in lab.run("doctor").stdout
