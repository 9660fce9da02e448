"""Figures that `make bench` takes on a quiet host, here with room for the other test processes of the suite.

Reading 1 GiB over https or a lease takes half a minute on a busy host, so `make soak` does that.
"""

import statistics

import pytest

from holdfast.model.plan import TransportMode
from tests.bench.vsphere import SPEED_RATIO_MIN, reading_rounds
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = [pytest.mark.vsphere, pytest.mark.slow]

ROUNDS = 2
# A client in C and ours do not suffer alike from a busy host.
RATIO_MIN = SPEED_RATIO_MIN / 2


@pytest.mark.soak
@pytest.mark.tools("curl")
def test_a_disk_is_read_over_https_almost_as_fast_as_by_curl(bench: VSphereBench) -> None:
    assert median_ratio(bench, TransportMode.HTTPS, "curl") >= RATIO_MIN


@pytest.mark.tools("nbdkit", "nbdcopy")
def test_a_disk_is_read_over_the_network_almost_as_fast_as_by_nbdcopy(bench: VSphereBench) -> None:
    assert median_ratio(bench, TransportMode.NETWORK, "nbdcopy") >= RATIO_MIN


@pytest.mark.soak
@pytest.mark.tools("curl")
def test_a_lease_is_read_almost_as_fast_as_by_curl_that_unpacks_nothing(bench: VSphereBench) -> None:
    assert median_ratio(bench, TransportMode.LEASE, "curl") >= RATIO_MIN


def median_ratio(bench: VSphereBench, mode: TransportMode, program: str) -> float:
    rounds = list(reading_rounds(bench, mode, program, ROUNDS))
    ours = statistics.median(mine for mine, _ in rounds)
    theirs = statistics.median(other for _, other in rounds)
    print(f"ours {ours:.2f} s, {program} {theirs:.2f} s")  # noqa: T201 # shown when it fails
    return theirs / ours
