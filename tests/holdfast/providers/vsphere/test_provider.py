"""The provider reaches its vCenter at the first use, with one session for all threads, and leaves it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import DiskNotFound, MachineNotFound, ProviderUnavailable, SnapshotNotFound
from holdfast.model.ids import ChangeId, DiskKey, MachineId, SnapshotId
from holdfast.model.machine import Machine, PowerState
from holdfast.providers.vsphere.provider import VSphereProvider
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import Client, SoapStubAdapter

pytestmark = pytest.mark.vsphere

MIB = 1 << 20
ON, OFF = PowerState.ON, PowerState.OFF


@pytest.fixture
def machine(bench: VSphereBench) -> Machine:
    return bench.make_machine("web", [MIB])


def calls(bench: VSphereBench, method: str) -> int:
    return int(bench.client.control("GET", "/calls").get(method, 0))


def ask_with(client: Client, cookie: str) -> None:
    """Ask for the time in the session of a cookie."""
    parts = urlsplit(client.address.url)
    stub = SoapStubAdapter(
        host=parts.hostname, port=parts.port, sslContext=client.tls, version=client.instance._stub.version
    )
    stub.cookie = cookie
    try:
        vim.ServiceInstance("ServiceInstance", stub).CurrentTime()
    finally:
        stub.DropConnections()


def test_power_is_switched_on_and_off(bench: VSphereBench, machine: Machine) -> None:
    for power in (ON, OFF, ON):
        bench.provider.set_power(machine.machine_id, power)
        assert bench.provider.machine(machine.machine_id).power is power
    assert bench.vm(machine.machine_id).runtime.powerState == "poweredOn"


@pytest.mark.parametrize("power, state", [(ON, "poweredOn"), (OFF, "poweredOff")])
def test_a_suspended_machine_is_resumed_or_switched_off(
    bench: VSphereBench, machine: Machine, power: PowerState, state: str
) -> None:
    bench.provider.set_power(machine.machine_id, ON)
    bench.client.wait(bench.vm(machine.machine_id).SuspendVM_Task())
    assert bench.provider.machine(machine.machine_id).power is ON
    bench.provider.set_power(machine.machine_id, power)
    assert bench.vm(machine.machine_id).runtime.powerState == state


def test_power_that_is_so_already_is_not_switched(bench: VSphereBench, machine: Machine) -> None:
    bench.client.control("DELETE", "/calls")
    bench.provider.set_power(machine.machine_id, OFF)
    assert calls(bench, "PowerOffVM_Task") == 0
    for _ in range(2):
        bench.provider.set_power(machine.machine_id, ON)
    assert calls(bench, "PowerOnVM_Task") == 1


@pytest.mark.parametrize("action", ["drop", "drop-after"])
def test_a_switch_that_was_cut_off_is_repeated(bench: VSphereBench, machine: Machine, action: str) -> None:
    bench.provider.machines()
    rule = {"method": "PowerOnVM_Task", "action": action, "times": 1}
    bench.client.control("POST", "/faults", rule)
    with pytest.raises(ProviderUnavailable):
        bench.provider.set_power(machine.machine_id, ON)
    bench.provider.set_power(machine.machine_id, ON)
    assert bench.provider.machine(machine.machine_id).power is ON


def test_a_switch_that_fails_names_the_machine_as_people_do(bench: VSphereBench) -> None:
    machine = bench.make_machine("50% / web", [MIB])
    bench.client.control(
        "POST", "/faults", {"method": "PowerOnVM_Task", "action": "fail-task", "fault": "SystemError", "times": 1}
    )
    with pytest.raises(ProviderUnavailable, match="switching machine '50% / web' on"):
        bench.provider.set_power(machine.machine_id, ON)


@pytest.mark.parametrize("reference", ["", "web", "00000000:0", "gone"])
def test_the_power_of_an_unknown_machine_is_not_switched(bench: VSphereBench, machine: Machine, reference: str) -> None:
    unknown = machine.machine_id if reference == "gone" else MachineId(reference)
    if reference == "gone":
        bench.clear()
    with pytest.raises(MachineNotFound):
        bench.provider.set_power(unknown, ON)


def test_closing_logs_out(bench: VSphereBench, machine: Machine) -> None:
    provider = bench.reconnect()
    provider.machine(machine.machine_id)
    cookie = provider._open.connection.cookie
    ask_with(bench.client, cookie)
    bench.client.control("DELETE", "/calls")
    provider.close()
    with pytest.raises(vim.fault.NotAuthenticated):
        ask_with(bench.client, cookie)
    provider.close()
    assert calls(bench, "Logout") == 1


def test_closing_does_not_need_the_vcenter(bench: VSphereBench, machine: Machine) -> None:
    provider = bench.reconnect()
    provider.machine(machine.machine_id)
    bench.client.control("POST", "/sessions/expire")
    provider.close()
    bench.client.control("POST", "/faults", {"method": "Logout", "action": "drop"})
    again = bench.reconnect()
    again.targets()
    again.close()


def test_a_closed_provider_that_is_used_logs_in_anew(bench: VSphereBench, machine: Machine) -> None:
    with bench.reconnect() as provider:
        provider.machine(machine.machine_id)
    assert provider.machine(machine.machine_id) == machine
    provider.close()


def test_threads_share_one_session(bench: VSphereBench, machine: Machine) -> None:
    provider = bench.reconnect()
    bench.client.control("DELETE", "/calls")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: provider.machine(machine.machine_id), range(32)))
    assert found == [machine] * 32
    assert calls(bench, "Login") == 1


def test_threads_renew_a_session_once(bench: VSphereBench, machine: Machine) -> None:
    bench.provider.machine(machine.machine_id)
    bench.client.control("POST", "/sessions/expire")
    bench.client.control("DELETE", "/calls")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: bench.provider.machine(machine.machine_id), range(32)))
    assert found == [machine] * 32
    assert calls(bench, "Login") == 1


def test_nothing_is_opened_before_the_first_use(bench: VSphereBench) -> None:
    endpoint = msgspec.structs.replace(
        bench.settings.endpoint, port=1, password=lambda: pytest.fail("nobody needs the password")
    )
    settings = msgspec.structs.replace(bench.settings, endpoint=endpoint, mounts={"gone": Path("/no/such/folder")})
    VSphereProvider(settings, SystemClock()).close()
    with VSphereProvider(settings, SystemClock()) as provider, pytest.raises(ProviderUnavailable):
        provider.machine("web")


@pytest.mark.parametrize(
    "use",
    [
        lambda provider, *where: provider.changed_spans(*where, ChangeId("id/1")),
        lambda provider, *where: provider.open_disk(*where),
    ],
    ids=["changed_spans", "open_disk"],
)
def test_disks_and_snapshots_that_are_unknown_are_not_found(
    bench: VSphereBench, machine: Machine, use: Callable[..., Any]
) -> None:
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    with pytest.raises(DiskNotFound, match="has no disk '9999'"):
        use(bench.provider, machine.machine_id, taken.snapshot_id, DiskKey("9999"))
    with pytest.raises(SnapshotNotFound):
        use(bench.provider, machine.machine_id, SnapshotId("snapshot-0"), machine.disks[0].key)
    with pytest.raises(SnapshotNotFound):
        use(bench.reconnect(), MachineId("other:1"), taken.snapshot_id, machine.disks[0].key)


def test_a_machine_that_is_gone_has_no_snapshots(bench: VSphereBench, machine: Machine) -> None:
    taken = bench.provider.create_snapshot(machine.machine_id, "tag")
    assert bench.provider.snapshots(machine.machine_id) == [taken]
    bench.clear()
    assert bench.provider.snapshots(machine.machine_id) == []
    bench.provider.remove_snapshot(machine.machine_id, taken.snapshot_id)
