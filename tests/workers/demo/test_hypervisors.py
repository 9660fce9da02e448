"""The demonstration's hypervisors take over its disks and say where their bytes are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ToolMissing
from holdfast.model.ids import DiskKey
from holdfast.model.machine import PowerState
from holdfast.testing.images import FileSystem
from tests.lab.vcenter.running import need_lab
from workers.config import load_settings
from workers.demo.disks import DemoDisk
from workers.demo.hypervisors import DemoHypervisor, LabHypervisor, LocalHypervisor, lab_problem
from workers.demo.place import DemoPlace, prepare_place, write_configuration
from workers.providers import ProviderPool

SIZE = 1 << 20


@pytest.fixture
def place(tmp_path: Path) -> DemoPlace:
    return prepare_place(tmp_path / 'odd "name"')


@pytest.fixture(params=["local", pytest.param("vsphere", marks=pytest.mark.vsphere)])
def hypervisor(request: pytest.FixtureRequest, place: DemoPlace) -> Iterator[DemoHypervisor]:
    if request.param == "local":
        made: DemoHypervisor = LocalHypervisor(place, SystemClock())
    else:
        need_lab()
        made = LabHypervisor(place, SystemClock())
    try:
        yield made
    finally:
        made.close()


def disks_in(place: DemoPlace) -> list[DemoDisk]:
    """Two machines, of which one has two disks; every disk begins with its own name and is empty behind."""
    made = []
    for machine, label in (("web01", "a"), ("web01", "b"), ("db01", "a")):
        path = place.disks / f"{machine}-{label}.raw"
        with path.open("wb") as file:
            file.write(f"{machine} {label}".encode())
            file.truncate(SIZE)
        made.append(
            DemoDisk(
                machine=machine,
                label=label,
                key=DiskKey(label),
                path=path,
                file_system=FileSystem.EXT4,
                size_bytes=SIZE,
                describes="",
            )
        )
    return made


def test_adopted_disks_have_their_bytes_and_are_found_by_machine_and_key(
    place: DemoPlace, hypervisor: DemoHypervisor
) -> None:
    wanted = {(disk.machine, disk.label): disk.path.read_bytes() for disk in disks_in(place)}
    adopted = hypervisor.adopt(disks_in(place))
    assert {(disk.machine, disk.label): disk.path.read_bytes() for disk in adopted} == wanted
    assert [hypervisor.path(disk.machine, disk.key) for disk in adopted] == [disk.path for disk in adopted]


def test_the_configuration_leads_to_the_machines(place: DemoPlace, hypervisor: DemoHypervisor) -> None:
    adopted = hypervisor.adopt(disks_in(place))
    write_configuration(place, "127.0.0.1:7233", "holdfast", hypervisor.table)
    settings = load_settings(place.config, {})
    pool = ProviderPool(settings, SystemClock(), settings.credentials)
    try:
        found = list(pool.open(settings.job("demo").provider).machines())
    finally:
        pool.close()
    assert {machine.name: len(machine.disks) for machine in found} == {"web01": 2, "db01": 1}
    assert {disk.key for machine in found for disk in machine.disks} == {disk.key for disk in adopted}


@pytest.mark.vsphere
def test_machines_of_the_lab_run_and_need_no_copy_of_their_disks(place: DemoPlace) -> None:
    need_lab()
    lab = LabHypervisor(place, SystemClock())
    try:
        lab.adopt(disks_in(place))
        write_configuration(place, "127.0.0.1:7233", "holdfast", lab.table)
        settings = load_settings(place.config, {})
        pool = ProviderPool(settings, SystemClock(), settings.credentials)
        try:
            assert pool.open(lab.settings.name).machine("web01").power is PowerState.ON
        finally:
            pool.close()
    finally:
        lab.close()
    assert list(place.disks.iterdir()) == []


def test_without_go_the_problem_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without() -> Path:
        raise ToolMissing("no go")

    monkeypatch.setattr("workers.demo.hypervisors.build", without)
    problem = lab_problem()
    assert problem is not None
    assert problem.message == "no go"
