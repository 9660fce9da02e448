"""What hosts measure of datastores reaches those who ask, with one question for all of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import SnapshotFailed
from holdfast.model.latency import DatastoreLatency, LatencyLimits
from holdfast.model.machine import Machine, Snapshot
from holdfast.planning.latency import LatencyRules
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.latency import LatencyMeter, identity_of, is_controlled, worst_by_name
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import VSphereBench, settings_of
from tests.holdfast.providers.vsphere.conftest import SteppingClock
from tests.lab.vcenter.client import Client
from workers.vcenter_lab import VCenterAddress

pytestmark = pytest.mark.vsphere

STORE = "LocalDS_0"
LIMITS = LatencyLimits(start_max_ms=20, slow_from_ms=30)
RULES = LatencyRules(limits=LIMITS)
Opener = Callable[[LatencyRules], VSphereProvider]


class HandClock(SystemClock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    @override
    def monotonic_s(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def _calm(vc: Client) -> None:
    vc.control("DELETE", "/latency")
    vc.control("DELETE", "/calls")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def opened(bench: VSphereBench) -> Opener:
    def opened(rules: LatencyRules) -> VSphereProvider:
        provider = VSphereProvider(msgspec.structs.replace(bench.settings, latency=rules), SystemClock())
        bench._opened.append(provider)
        return provider

    return opened


def slow(vc: Client, read_ms: int, write_ms: int = 1) -> None:
    vc.control("POST", "/latency", {"datastore": STORE, "read_ms": read_ms, "write_ms": write_ms})


def queries(vc: Client) -> int:
    return sum(count for name, count in vc.control("GET", "/calls").items() if name.endswith("QueryPerf"))


def ask(meter: LatencyMeter, *names: str) -> list[tuple[str, float | None, int]]:
    return [(one.datastore, one.latency_ms, one.sample) for one in meter.of(names or (STORE,))]


# -- measuring -------------------------------------------------------------------------------------------------------


def test_the_slower_of_reads_and_writes_counts(address: VCenterAddress, vc: Client, clock: HandClock) -> None:
    with Connection(settings_of(address).endpoint) as connection:
        meter = LatencyMeter(connection, clock, RULES)
        slow(vc, 35, 4)
        assert ask(meter) == [(STORE, 35.0, 1)]
        slow(vc, 3, 41)
        clock.seconds += 20
        assert ask(meter) == [(STORE, 41.0, 2)]


def test_it_is_measured_once_in_twenty_seconds_however_many_ask(
    address: VCenterAddress, vc: Client, clock: HandClock
) -> None:
    with Connection(settings_of(address).endpoint) as connection:
        meter = LatencyMeter(connection, clock, RULES)
        for _ in range(5):
            assert ask(meter) == [(STORE, 1.0, 1)]
        clock.seconds += 19.9
        assert ask(meter) == [(STORE, 1.0, 1)]
        assert queries(vc) == 1
        clock.seconds += 0.1
        assert ask(meter) == [(STORE, 1.0, 2)]
        calls = vc.control("GET", "/calls")
        clock.seconds += 20
        ask(meter)
        assert sum(vc.control("GET", "/calls").values()) == sum(calls.values()) + 1


def test_without_limits_nobody_is_asked(address: VCenterAddress, vc: Client, clock: HandClock) -> None:
    with Connection(settings_of(address).endpoint) as connection:
        for rules in (LatencyRules(), LatencyRules(limits=LIMITS, by_datastore={STORE: LatencyLimits()})):
            assert ask(LatencyMeter(connection, clock, rules)) == []
    assert queries(vc) == 0


def test_a_datastore_that_no_host_measures_is_not_known(address: VCenterAddress, vc: Client, clock: HandClock) -> None:
    with Connection(settings_of(address).endpoint) as connection:
        meter = LatencyMeter(connection, clock, RULES)
        slow(vc, -1, -1)
        [here, elsewhere] = meter.of([STORE, "elsewhere"])
        assert (here.latency_ms, elsewhere.latency_ms) == (None, None)
        assert here.why_unknown == f"no host tells the latency of datastore {STORE}"


def test_a_vcenter_that_does_not_answer_is_asked_again_at_the_next_time(
    address: VCenterAddress, vc: Client, clock: HandClock
) -> None:
    rule = {"method": "QueryPerf", "action": "fail", "fault": "InvalidArgument", "message": "no", "times": 1}
    with Connection(settings_of(address).endpoint) as connection:
        meter = LatencyMeter(connection, clock, RULES)
        vc.control("POST", "/faults", rule)
        for _ in range(3):
            [found] = meter.of([STORE])
            assert (found.latency_ms, found.sample) == (None, 1)
            assert "measuring the latency of datastores" in found.why_unknown
        clock.seconds += 20
        assert ask(meter) == [(STORE, 1.0, 2)]


def test_a_vcenter_that_takes_long_to_fail_is_left_alone_for_longer(address: VCenterAddress, vc: Client) -> None:
    rule = {"method": "QueryPerf", "action": "drop", "times": 0}
    clock = SteppingClock(60.0)  # each look at the time takes a minute
    with Connection(settings_of(address).endpoint) as connection:
        meter = LatencyMeter(connection, clock, RULES)
        vc.control("POST", "/faults", rule)
        [first] = meter.of([STORE])
        for _ in range(8):
            assert meter.of([STORE]) == [first]
        [later] = meter.of([STORE])
        assert (first.sample, later.sample) == (1, 2)


def test_while_one_thread_measures_the_others_get_the_figures_of_before(
    address: VCenterAddress, vc: Client, clock: HandClock
) -> None:
    with Connection(settings_of(address).endpoint) as connection, ThreadPoolExecutor(1) as pool:
        meter = LatencyMeter(connection, clock, RULES)
        assert ask(meter) == [(STORE, 1.0, 1)]
        slow(vc, 35)
        vc.control("POST", "/faults", {"method": "QueryPerf", "action": "delay", "delay_ms": 1000, "times": 1})
        clock.seconds += 20
        measuring = pool.submit(ask, meter)
        while not meter._lock.locked() and not measuring.done():
            pass
        assert ask(meter) == [(STORE, 1.0, 1)]
        assert measuring.result() == [(STORE, 35.0, 2)]


# -- answers, without a vCenter --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, expected",
    [("VMFS", True), ("NFS", True), ("NFS41", True), ("vsan", False), ("vsanD", False), ("VVOL", False)],
)
def test_datastores_that_are_no_single_piece_of_storage_are_not_controlled(kind: str, *, expected: bool) -> None:
    assert is_controlled(kind) is expected


@pytest.mark.parametrize(
    "url", ["ds:///vmfs/volumes/5f0e-1/", "/vmfs/volumes/5f0e-1", "ds:///vmfs/volumes/5f0e-1", "5f0e-1"]
)
def test_hosts_know_a_datastore_by_the_end_of_its_address(url: str) -> None:
    assert identity_of(url) == "5f0e-1"


def test_the_newest_figure_of_the_worst_host_counts() -> None:
    series = [
        ("a", [90, 7]),
        ("a", [8]),
        ("b", [-1]),
        ("c", []),
        ("x", [99]),
        ("d", [0]),
        ("twin", [9]),
        ("other", [3]),
    ]
    names = {"a": "A", "b": "B", "c": "C", "d": "D", "twin": "T", "other": "T"}
    assert worst_by_name(series, names) == {"A": 8.0, "D": 0.0, "T": 9.0}


# -- what the provider does with it ----------------------------------------------------------------------------------


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    return bench.make_machine("web", [1 << 20])


def latency_of(provider: VSphereProvider, snapshot: Snapshot) -> DatastoreLatency | None:
    return provider.disk_latency(snapshot.machine_id, snapshot.snapshot_id, snapshot.disks[0].key)


def test_a_machine_on_a_slow_datastore_is_not_frozen_and_the_error_says_why(
    vc: Client, opened: Opener, machine: Machine
) -> None:
    slow(vc, 25)
    with pytest.raises(
        SnapshotFailed, match=f"'web' is not frozen: the latency of datastore {STORE} is 25 ms"
    ) as caught:
        opened(RULES).create_snapshot(machine.machine_id, "tag")
    assert caught.value.retryable
    slow(vc, 19)
    assert opened(RULES).create_snapshot(machine.machine_id, "tag").notes == ()


def test_a_snapshot_that_was_taken_is_found_however_slow_the_datastore_has_become(
    vc: Client, opened: Opener, machine: Machine
) -> None:
    taken = opened(RULES).create_snapshot(machine.machine_id, "tag")
    slow(vc, 500)
    assert opened(RULES).create_snapshot(machine.machine_id, "tag") == taken


def test_a_datastore_may_have_limits_of_its_own(vc: Client, opened: Opener, machine: Machine) -> None:
    own = LatencyLimits(start_max_ms=40, slow_from_ms=60)
    slow(vc, 35)
    provider = opened(LatencyRules(limits=LIMITS, by_datastore={STORE: own}))
    found = latency_of(provider, provider.create_snapshot(machine.machine_id, "tag"))
    assert found is not None
    assert (found.latency_ms, found.limits) == (35.0, own)


def test_a_snapshot_says_that_its_datastore_could_not_be_judged(vc: Client, opened: Opener, machine: Machine) -> None:
    slow(vc, -1, -1)
    taken = opened(RULES).create_snapshot(machine.machine_id, "tag")
    assert taken.notes == (
        f"the latency of datastore {STORE} is not watched: no host tells the latency of datastore {STORE}",
    )


def test_without_limits_there_is_no_latency(vc: Client, opened: Opener, machine: Machine) -> None:
    provider = opened(LatencyRules())
    assert latency_of(provider, provider.create_snapshot(machine.machine_id, "tag")) is None
    assert queries(vc) == 0
