"""Disks that are attached to proxies carry a mark, and nothing else is ever detached."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pyVmomi import vim

from holdfast.clock import SystemClock
from holdfast.errors import DiskReadFailed
from holdfast.model.ids import TargetId
from holdfast.model.machine import Machine
from holdfast.providers.vsphere import staging
from holdfast.providers.vsphere.attachments import FOR_READING, FOR_WRITING, Attacher, Mark, proxies_in
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.devices import disks_of
from holdfast.providers.vsphere.disk_rules import DiskFacts
from holdfast.providers.vsphere.properties import read
from holdfast.testing.provider_bench import MIB
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Place:
    """A proxy, and a machine that is off whose disk can be attached to it."""

    def __init__(self, bench: VSphereBench, connection: Connection) -> None:
        self.bench = bench
        self.attacher = Attacher(connection, SystemClock())
        self.proxy = self._reference(connection, bench.make_machine("proxy", [MIB]))
        self.holder = self._reference(connection, bench.make_machine("holder", [MIB]))
        [self.facts] = self.disks(self.holder)
        self.mark = Mark(file=self.facts.file, since=NOW, target_id=TargetId("target"))

    def _reference(self, connection: Connection, machine: Machine) -> Any:
        return connection.reference(vim.VirtualMachine, self.bench.vm(machine.machine_id)._moId)

    @staticmethod
    def disks(vm: Any) -> list[DiskFacts]:
        return list(disks_of(vm.config.hardware.device))

    def attached(self) -> list[tuple[str, str]]:
        return [(disk.file, disk.mode) for disk in self.disks(self.proxy)[1:]]


@pytest.fixture
def place(bench: VSphereBench, connection: Connection) -> Place:
    return Place(bench, connection)


@pytest.mark.parametrize("mode", [FOR_READING, FOR_WRITING])
def test_an_attached_disk_is_found_by_its_mark_until_it_is_detached(place: Place, mode: str) -> None:
    assert list(place.attacher.found()) == []
    uuid = place.attacher.attach(place.proxy, place.facts, mode, place.mark)
    assert uuid == place.facts.uuid
    assert place.attached() == [(place.facts.file, mode)]
    [found] = place.attacher.found()
    assert (found.vm, found.machine_name, found.mark) == (place.proxy, "proxy", place.mark)
    for _ in range(2):
        place.attacher.detach(place.proxy, {place.facts.file})
    assert place.attached() == []
    assert list(place.attacher.found()) == []


def test_disks_that_were_not_attached_by_us_stay(place: Place) -> None:
    own = place.disks(place.proxy)[0]
    place.attacher.detach(place.proxy, {own.file, place.facts.file})
    assert [disk.file for disk in place.disks(place.proxy)] == [own.file]


def test_a_mark_without_its_disk_is_taken_away(place: Place, bench: VSphereBench) -> None:
    place.attacher.attach(place.proxy, place.facts, FOR_WRITING, place.mark)
    device = place.proxy.config.hardware.device[-1]
    bench.client.reconfigure(place.proxy, deviceChange=[staging.detached_disk(device)])
    assert len(list(place.attacher.found())) == 1
    place.attacher.detach(place.proxy, {place.facts.file})
    assert list(place.attacher.found()) == []


def test_an_entry_of_somebody_else_is_no_mark(place: Place, bench: VSphereBench) -> None:
    option = vim.option.OptionValue(key="holdfast.attached.by-hand", value="since yesterday")
    bench.client.reconfigure(place.proxy, extraConfig=[option])
    assert list(place.attacher.found()) == []


def test_a_proxy_without_a_free_place_says_so(place: Place, bench: VSphereBench) -> None:
    assert place.attacher.free_places(place.proxy) == 14
    bare = bench.client.wait(bare_machine(bench))
    with pytest.raises(DiskReadFailed, match="no SCSI controller with a free place"):
        place.attacher.attach(bare, place.facts, FOR_WRITING, place.mark)


def bare_machine(bench: VSphereBench) -> Any:
    spec = vim.vm.ConfigSpec(name="bare", guestId="otherGuest64", numCPUs=1, memoryMB=128)
    spec.files = vim.vm.FileInfo(vmPathName=f"[{bench.store}] bare/bare.vmx")
    folder, pool = bench.client.all(vim.Datacenter)[0].vmFolder, bench.client.all(vim.ResourcePool)[0]
    return folder.CreateVM_Task(spec, pool)


def test_a_holder_remembers_each_proxy_once(place: Place, connection: Connection) -> None:
    for _ in range(2):
        place.attacher.note_proxy(place.holder, place.proxy)
    assert proxies_in(read(connection, place.holder, "config.extraConfig")) == (place.proxy._moId,)
    place.attacher.note_proxy(place.holder, place.holder)
    assert proxies_in(read(connection, place.holder, "config.extraConfig")) == (
        place.proxy._moId,
        place.holder._moId,
    )


def test_a_proxy_that_is_gone_holds_nothing(place: Place, bench: VSphereBench) -> None:
    gone = place.proxy._moId
    bench.client.wait(place.proxy.Destroy_Task())
    place.attacher.release([gone], {place.facts.file})
