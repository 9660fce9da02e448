"""A restore target leaves nothing behind, wherever its preparation or its commit was cut off."""

from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import HoldfastError, ProviderUnavailable, RequestInvalid
from holdfast.model.ids import MachineId
from holdfast.model.machine import Disk, Machine, RestoreTarget
from holdfast.providers.vsphere.hardware import hardware_in
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


def prepare(bench: VSphereBench, machine: Machine, replaces: MachineId | None, name: str = "web") -> RestoreTarget:
    shape = Machine(
        machine_id=machine.machine_id, name=name, power=machine.power, disks=machine.disks,
        configuration=machine.configuration,
    )  # fmt: skip
    disks = [Disk(key=disk.key, size_bytes=disk.size_bytes) for disk in machine.disks]
    return bench.reconnect().prepare_target("token", shape, disks, replaces)


def files(bench: VSphereBench) -> list[str]:
    store = Path(bench.settings.mounts[bench.store])
    return sorted(str(path.relative_to(store)) for path in store.rglob("*.vmdk"))


def cut(bench: VSphereBench, method: str, action: str, at: int) -> None:
    bench.client.control("POST", "/faults", {"method": method, "action": action, "at": at, "times": 1})


CUTS = [
    (method, action, at)
    for method, count in (("ReconfigVM_Task", 3), ("DeleteVirtualDisk_Task", 1), ("Destroy_Task", 1))
    for action in ("drop", "drop-after")
    for at in range(1, count + 1)
]


@pytest.mark.parametrize("method, action, at", CUTS)
def test_a_replacement_that_was_cut_off_is_completed_when_it_is_repeated(
    bench: VSphereBench, method: str, action: str, at: int
) -> None:
    machine = bench.make_machine("web", [MIB])
    before = files(bench)
    target = prepare(bench, machine, machine.machine_id)
    key = machine.disks[0].key
    with bench.provider.open_target(target.target_id, key) as disk:
        disk.write(0, memoryview(b"x" * 512))
        disk.flush()
    cut(bench, method, action, at)
    try:
        bench.provider.commit_target(target.target_id)
    except HoldfastError as error:
        if not error.retryable:
            raise
    bench.client.control("DELETE", "/faults")
    done = bench.provider.commit_target(target.target_id)
    assert done.machine_id == machine.machine_id
    assert bench.read_live(machine.machine_id, key)[:512] == b"x" * 512
    assert [one.name for one in bench.provider.machines()] == ["web"]
    assert bench.provider.targets() == []
    assert len(files(bench)) == len(before)


@pytest.mark.parametrize("method, action", [("CreateVM_Task", "drop-after"), ("ReconfigVM_Task", "drop")])
def test_a_preparation_that_was_cut_off_is_begun_anew(bench: VSphereBench, method: str, action: str) -> None:
    machine = bench.make_machine("old", [MIB])
    before = files(bench)
    cut(bench, method, action, 1)
    with pytest.raises(HoldfastError):
        prepare(bench, machine, None)
    target = prepare(bench, machine, None)
    assert bench.provider.targets() == [target]
    assert [one.name for one in bench.provider.machines()] == ["old"]
    bench.provider.abandon_target(target.target_id)
    assert files(bench) == before


@pytest.mark.parametrize("action", ["drop", "drop-after"])
def test_an_abandonment_that_was_cut_off_is_completed_when_it_is_repeated(bench: VSphereBench, action: str) -> None:
    machine = bench.make_machine("old", [MIB])
    before = files(bench)
    target = prepare(bench, machine, None)
    cut(bench, "Destroy_Task", action, 1)
    with pytest.raises(ProviderUnavailable):
        bench.provider.abandon_target(target.target_id)
    bench.client.control("DELETE", "/faults")
    for _ in range(2):
        bench.provider.abandon_target(target.target_id)
    assert files(bench) == before
    assert bench.provider.targets() == []
    assert [one.name for one in bench.provider.machines()] == ["old"]


def test_an_unknown_target_is_refused(bench: VSphereBench) -> None:
    for text in ("", "no", "0" * 32):
        with pytest.raises(RequestInvalid):
            bench.provider.commit_target(text)  # type: ignore[arg-type] # as a caller may have read it
        bench.provider.abandon_target(text)  # type: ignore[arg-type] # as above


def test_a_restored_machine_has_the_hardware_that_was_captured(bench: VSphereBench) -> None:
    machine = bench.make_machine("web", [MIB, MIB])
    vm: Any = bench.vm(machine.machine_id)
    bench.client.reconfigure(vm, numCPUs=2, memoryMB=256, annotation="notes")
    frozen = bench.provider.create_snapshot(machine.machine_id, "tag").machine
    target = prepare(bench, frozen, None, "copy")
    copy = bench.provider.commit_target(target.target_id)
    again = hardware_in(bench.provider.create_snapshot(copy.machine_id, "tag").machine.configuration)
    first = hardware_in(frozen.configuration)
    assert (again.cpus, again.memory_mib, again.notes) == (2, 256, "notes")
    assert (again.guest, again.firmware) == (first.guest, first.firmware)
    assert [one.kind for one in again.controllers] == [one.kind for one in first.controllers]
    assert copy.machine_id != machine.machine_id
