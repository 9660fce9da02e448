"""The datacenter of a machine is found however deep both lie, and asked for once per folder."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import MachineNotFound, ProviderUnavailable
from holdfast.model.ids import MachineId
from holdfast.model.plan import TransportMode
from holdfast.model.spans import Span
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.datacenters import Datacenters, datacenter_of
from holdfast.providers.vsphere.provider import VSphereProvider
from holdfast.testing.provider_bench import read
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


@pytest.fixture
def machine_id(bench: VSphereBench) -> MachineId:
    return bench.make_machine("web", [MIB]).machine_id


@pytest.fixture
def datacenter(bench: VSphereBench) -> Any:
    return bench.client.all(vim.Datacenter)[0]


def reference(connection: Connection, entity: Any) -> Any:
    return connection.reference(type(entity), entity._moId)


def reads(bench: VSphereBench) -> int:
    """Return how often properties were read since the last call."""
    count: int = bench.client.control("GET", "/calls").get("RetrievePropertiesEx", 0)
    bench.client.control("DELETE", "/calls")
    return count


@pytest.fixture
def nested(bench: VSphereBench, datacenter: Any) -> Iterator[Any]:
    """The datacenter two folders deep, the outer one with a name that vSphere escapes."""
    root = bench.client.content.rootFolder
    outer = root.CreateFolder("north/south")
    inner = outer.CreateFolder("ü 1")
    bench.client.wait(inner.MoveIntoFolder_Task([datacenter]))
    try:
        yield datacenter
    finally:
        bench.client.wait(root.MoveIntoFolder_Task([datacenter]))
        bench.client.wait(outer.Destroy_Task())


def test_the_path_of_a_datacenter_has_no_root(
    bench: VSphereBench, connection: Connection, machine_id: MachineId
) -> None:
    assert Datacenters(connection).path_of(reference(connection, bench.vm(machine_id))) == "DC0"


def test_folders_of_machines_are_not_in_the_path(
    bench: VSphereBench, connection: Connection, machine_id: MachineId, datacenter: Any
) -> None:
    outer = datacenter.vmFolder.CreateFolder("prod")
    vm = bench.vm(machine_id)
    bench.client.wait(outer.CreateFolder("web").MoveIntoFolder_Task([vm]))
    assert Datacenters(connection).path_of(reference(connection, vm)) == "DC0"
    assert datacenter_of(connection, reference(connection, vm))._moId == datacenter._moId


def test_folders_of_datacenters_are_in_the_path(
    bench: VSphereBench, connection: Connection, machine_id: MachineId, nested: Any
) -> None:
    vm = reference(connection, bench.vm(machine_id))
    assert Datacenters(connection).path_of(vm) == "north%2fsouth/ü 1/DC0"
    assert datacenter_of(connection, vm)._moId == nested._moId


def test_files_are_found_in_a_datacenter_of_a_folder(bench: VSphereBench, machine_id: MachineId, nested: Any) -> None:
    key = bench.provider.machine(machine_id).disks[0].key
    bench.write_live(machine_id, key, 0, b"x" * 512)
    settings = msgspec.structs.replace(bench.settings, transports=(TransportMode.HTTPS,))
    with VSphereProvider(settings, SystemClock()) as provider:
        taken = provider.create_snapshot(machine_id, nested.name)
        with provider.open_disk(machine_id, taken.snapshot_id, key) as disk:
            assert read(disk, Span(0, 512)) == b"x" * 512


def test_files_are_found_after_their_datacenter_was_renamed(bench: VSphereBench, datacenter: Any) -> None:
    machine = bench.make_machine("web", [MIB])
    key = machine.disks[0].key
    bench.write_live(machine.machine_id, key, 0, b"x" * 512)
    settings = msgspec.structs.replace(bench.settings, transports=(TransportMode.HTTPS,))
    with VSphereProvider(settings, SystemClock()) as provider:
        taken = provider.create_snapshot(machine.machine_id, "tag")
        provider.open_disk(machine.machine_id, taken.snapshot_id, key).close()
        bench.client.wait(datacenter.Rename_Task("Renamed"))
        try:
            with provider.open_disk(machine.machine_id, taken.snapshot_id, key) as disk:
                assert read(disk, Span(0, 512)) == b"x" * 512
        finally:
            bench.client.wait(datacenter.Rename_Task("DC0"))


def test_a_folder_is_asked_about_once(bench: VSphereBench, connection: Connection, machine_id: MachineId) -> None:
    beside = bench.make_machine("beside", [MIB]).machine_id
    one, two = (reference(connection, bench.vm(found)) for found in (machine_id, beside))
    datacenters = Datacenters(connection)
    bench.client.control("DELETE", "/calls")
    datacenters.path_of(one)
    assert reads(bench) > 2
    assert datacenters.path_of(two) == datacenters.path_of(one) == "DC0"
    assert reads(bench) == 2


def test_another_folder_is_asked_about_itself(
    bench: VSphereBench, connection: Connection, machine_id: MachineId
) -> None:
    datacenters = Datacenters(connection)
    datacenters.path_of(reference(connection, bench.vm(machine_id)))
    twin = bench.vm(bench.make_machine("web", [MIB]).machine_id)  # of one name, in a folder of its own
    bench.client.control("DELETE", "/calls")
    assert datacenters.path_of(reference(connection, twin)) == "DC0"
    assert reads(bench) > 2


def test_a_machine_that_is_gone_has_no_datacenter(
    bench: VSphereBench, connection: Connection, machine_id: MachineId
) -> None:
    vm = reference(connection, bench.vm(machine_id))
    bench.clear()
    with pytest.raises(MachineNotFound):
        Datacenters(connection).path_of(vm)
    with pytest.raises(MachineNotFound):
        datacenter_of(connection, vm)


def test_a_datacenter_lies_in_itself_and_the_root_in_none(
    connection: Connection, bench: VSphereBench, datacenter: Any
) -> None:
    assert datacenter_of(connection, reference(connection, datacenter))._moId == datacenter._moId
    with pytest.raises(ProviderUnavailable, match="no datacenter holds"):
        datacenter_of(connection, reference(connection, bench.client.content.rootFolder))
