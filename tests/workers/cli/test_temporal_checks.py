"""What is missing at the server is told with the command that helps."""

import asyncio

import pytest

from holdfast.clock import SystemClock
from tests.workers.cli.place import Place
from workers.cli.checks import Finding, Level
from workers.cli.temporal_checks import check_temporal
from workers.devserver import DevServerAddress

pytestmark = pytest.mark.temporal


def found(place: Place) -> dict[str, Finding]:
    findings = asyncio.run(check_temporal(place.settings, SystemClock()))
    return {finding.check: finding for finding in findings}


def test_a_queue_without_a_worker_fails(dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = Place(tmp_path_factory.mktemp("idle"), dev_server.grpc)
    place.config.write_text(place.config.read_text().replace('"p1"', '"nobody"').replace("nightly", "unapplied"))
    findings = found(place)
    assert findings["search attributes"].level is Level.OK
    assert findings["queue proxy.nobody"].level is Level.FAIL
    assert "holdfast worker proxy --name nobody" in findings["queue proxy.nobody"].hint
    assert "schedule apply" in findings["schedules"].hint


def test_a_server_that_is_away_is_the_only_finding(place: Place) -> None:
    assert [finding.code for finding in found(place).values()] == ["server-unavailable"]


def test_a_sweep_that_no_proxy_can_do_is_a_failure(
    dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("proxyless"), dev_server.grpc)
    place.add_vcenter()
    text = place.config.read_text().partition("[[jobs]]")[0].replace('[[proxies]]\nname = "p1"', "")
    place.config.write_text(text.replace('credential = "vc"', 'credential = "vc"\nsweep = "0 5 * * *"'))
    assert "has no proxy" in found(place)["schedules"].text
