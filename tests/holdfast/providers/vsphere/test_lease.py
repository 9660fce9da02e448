"""A lease is waited for, kept alive, shared, and given back whatever happens."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed, HoldfastError, ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.lease import DiskPlace, Lease, Leases, address_of
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import vim

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
NAME = "ParaVirtualSCSIController0:0"
PLACE = DiskPlace(name=NAME, among=frozenset({NAME, "ParaVirtualSCSIController0:1"}))
PATIENCE = 1000


@pytest.fixture
def snapshot(bench: VSphereBench, connection: Connection) -> Any:
    machine = bench.make_machine("leased", [MIB])
    taken = bench.client.snapshot(bench.vm(machine.machine_id))
    return connection.reference(vim.vm.Snapshot, taken._moId)


def leases(bench: VSphereBench) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = bench.client.control("GET", "/leases")
    return found


def wait_for(is_true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE):
        if is_true():
            return
        pause.wait(0.01)
    raise AssertionError("it never came true")


def test_a_lease_gives_addresses_until_it_is_ended(bench: VSphereBench, connection: Connection, snapshot: Any) -> None:
    lease = Lease(connection, SystemClock(), snapshot)
    assert lease.is_alive()
    address = lease.address(PLACE)
    assert (address.host, address.port) == (bench.settings.endpoint.host, bench.settings.endpoint.port)
    other = "ParaVirtualSCSIController0:1"
    # Not in the lease; or the lease names a place that the machine does not have, so that it counts otherwise.
    for name, among in ((other, {NAME, other}), (NAME, {other})):
        with pytest.raises(DiskReadFailed, match=f"no disk is known to be at {name}"):
            lease.address(DiskPlace(name=name, among=frozenset(among)))
    lease.end(is_good=True)
    assert not lease.is_alive()
    assert leases(bench) == []


def test_the_vcenter_hears_of_a_lease_while_it_is_open(
    bench: VSphereBench, connection: Connection, snapshot: Any
) -> None:
    lease = Lease(connection, SystemClock(), snapshot, beat_s=0.01)
    lease.percent = 42
    wait_for(lambda: leases(bench)[0]["progress"] == 42)
    bench.client.control("DELETE", "/calls")
    lease.end(is_good=False)
    told = bench.client.control("GET", "/calls").get("HttpNfcLeaseProgress", 0)
    assert bench.client.control("GET", "/calls")["HttpNfcLeaseAbort"] == 1
    assert bench.client.control("GET", "/calls").get("HttpNfcLeaseProgress", 0) == told


def test_a_lease_that_timed_out_is_noticed_and_its_end_is_quiet(
    bench: VSphereBench, connection: Connection, snapshot: Any
) -> None:
    lease = Lease(connection, SystemClock(), snapshot, beat_s=0.01)
    assert bench.client.control("DELETE", "/leases") == {"ended": 1}
    assert not lease.is_alive()
    lease.end(is_good=True)


def test_a_lease_whose_readiness_cannot_be_learnt_is_given_up(
    bench: VSphereBench, connection: Connection, snapshot: Any
) -> None:
    rule = {"method": "RetrievePropertiesEx", "action": "fail", "fault": "HostCommunication"}
    bench.client.control("POST", "/faults", rule)
    with pytest.raises(ProviderUnavailable):
        Lease(connection, SystemClock(), snapshot)
    bench.client.control("DELETE", "/faults")
    assert leases(bench) == []


def test_a_refused_lease_names_the_fault(bench: VSphereBench, connection: Connection, snapshot: Any) -> None:
    bench.client.control("POST", "/faults", {"method": "ExportSnapshot", "action": "fail", "fault": "NotSupported"})
    with pytest.raises(HoldfastError, match=r"leasing the disks of snapshot snapshot-.*NotSupported"):
        Lease(connection, SystemClock(), snapshot)


def test_users_of_a_snapshot_share_one_lease_and_the_last_ends_it(
    bench: VSphereBench, connection: Connection, snapshot: Any
) -> None:
    all_leases = Leases(connection, SystemClock())
    first, second = all_leases.borrow(snapshot), all_leases.borrow(snapshot)
    assert first is second
    assert leases(bench) == []
    assert first.address(PLACE) == second.address(PLACE)
    all_leases.give_back(snapshot, first)
    assert len(leases(bench)) == 1
    all_leases.give_back(snapshot, second)
    assert leases(bench) == []
    assert all_leases.borrow(snapshot) is not first


@pytest.mark.parametrize(
    "url, expected",
    [
        ("https://*/nfc/52/disk-0.vmdk", ("vc.example.org", 8443, "/nfc/52/disk-0.vmdk")),
        ("https://*:443/nfc/52/disk-0.vmdk?a=b", ("vc.example.org", 443, "/nfc/52/disk-0.vmdk?a=b")),
        ("https://esx1.example.org/nfc/x", ("esx1.example.org", 443, "/nfc/x")),
        ("https://[2001:db8::1]:902/nfc/x", ("2001:db8::1", 902, "/nfc/x")),
    ],
)
def test_an_address_is_that_of_the_host_it_names_or_of_the_session(url: str, expected: tuple[str, int, str]) -> None:
    found = address_of(SimpleNamespace(url=url, sslThumbprint=None), "vc.example.org", 8443)
    assert (found.host, found.port, found.path) == expected
    assert found.thumbprint == ""


@pytest.mark.parametrize("url", ["http://esx1/nfc/x", "https:///nfc/x", "nfc/x"])
def test_an_address_that_is_not_of_https_is_refused(url: str) -> None:
    with pytest.raises(DiskReadFailed, match="not of https"):
        address_of(SimpleNamespace(url=url, sslThumbprint="AA"), "vc", 443)
