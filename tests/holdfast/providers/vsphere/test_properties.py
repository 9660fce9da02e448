"""Properties are read in pages, by leaves, and what is gone is said or left out."""

from types import SimpleNamespace

import pytest
from pyVmomi import vim

from holdfast.errors import MachineNotFound, ProviderUnavailable
from holdfast.providers.vsphere import properties
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.properties import Question, Step, ask, extra_of, read, read_all, read_disks, walk
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


def test_an_expired_session_in_the_middle_of_a_listing_makes_it_begin_anew(
    bench: VSphereBench, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        bench.make_machine(name, [MIB])
    monkeypatch.setattr(properties, "PAGE_SIZE", 1)
    listing = walk(connection, vim.VirtualMachine, ("name",))
    next(listing)
    bench.client.control("POST", "/sessions/expire")
    with pytest.raises(ProviderUnavailable, match="the session had ended"):
        list(listing)
    assert len(list(walk(connection, vim.VirtualMachine, ("name",)))) == 3


def test_a_page_is_one_call(bench: VSphereBench, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    vms = [bench.vm(bench.make_machine(name, [MIB]).machine_id) for name in "abcd"]
    monkeypatch.setattr(properties, "PAGE_SIZE", 2)
    bench.client.control("DELETE", "/calls")
    objects = [connection.reference(vim.VirtualMachine, vm._moId) for vm in vms]
    assert [values["name"] for _, values in read_all(connection, objects, ("name",))] == list("abcd")
    assert bench.client.control("GET", "/calls")["RetrievePropertiesEx"] == 2


def test_an_object_that_is_gone_is_not_found(connection: Connection) -> None:
    gone = connection.reference(vim.VirtualMachine, "vm-0")
    with pytest.raises(MachineNotFound):
        read(connection, gone, "name")
    with pytest.raises(MachineNotFound):
        read_disks(connection, [gone], ("name",))


def test_steps_lead_to_other_objects_in_the_same_call(bench: VSphereBench, connection: Connection) -> None:
    vm = bench.vm(bench.make_machine("web", [MIB]).machine_id)
    start = connection.reference(vim.VirtualMachine, vm._moId)
    step = Step(kind=vim.VirtualMachine, path="datastore")
    wanted = {vim.VirtualMachine: ("name", "snapshot"), vim.Datastore: ("summary.name",)}
    answers = ask(connection, Question(start=start, steps=(step,), wanted=wanted))
    assert answers.pop(start) == {"name": "web"}
    assert list(answers.values()) == [{"summary.name": bench.store}]


def test_a_listing_of_disks_leaves_other_devices_out(bench: VSphereBench, connection: Connection) -> None:
    vm = bench.vm(bench.make_machine("web", [MIB, MIB]).machine_id)
    one = connection.reference(vim.VirtualMachine, vm._moId)
    path = "config.hardware.device"
    [values] = read_disks(connection, [one], (path,))
    whole = read(connection, one, path)[path]
    assert len(values[path]) == 3 < len(whole)
    assert [d.key for d in values[path]] == [d.key for d in whole if d.key in {1000, 2000, 2001}]


def test_an_entry_of_the_extra_configuration_is_found() -> None:
    options = [SimpleNamespace(key="a", value="1"), SimpleNamespace(key="b", value="")]
    values = {"config.extraConfig": options}
    assert (extra_of(values, "a"), extra_of(values, "b"), extra_of(values, "c")) == ("1", None, None)
    assert extra_of({}, "a") is None
