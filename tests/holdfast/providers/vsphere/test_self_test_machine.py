"""The machine that is named is frozen, read over every way and let go, whatever happens in between."""

import random

import msgspec
import pytest

from holdfast.clock import SystemClock
from holdfast.errors import MachineNotFound, SnapshotFailed
from holdfast.model.ids import SessionId
from holdfast.model.machine import Machine
from holdfast.model.plan import TransportMode
from holdfast.model.tags import self_test_tag, session_tag
from holdfast.providers.vsphere.self_test import Finding, Verdict
from holdfast.providers.vsphere.self_test_machine import MachineTest
from holdfast.providers.vsphere.settings import VSphereSettings
from tests.holdfast.providers.vsphere.bench import VSphereBench

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

MIB = 1 << 20
TAG = self_test_tag("ab12")
WAYS = (TransportMode.DIRECT, TransportMode.NETWORK, TransportMode.HTTPS)
"""Those that need nothing of the host that runs the tests."""


def a_machine(bench: VSphereBench) -> Machine:
    machine = bench.make_machine("test", [2 * MIB, MIB])
    for disk in machine.disks:
        bench.write_live(machine.machine_id, disk.key, 0, random.Random(bench.seed).randbytes(MIB))
    return machine


def outcome_of(bench: VSphereBench, reference: str, settings: VSphereSettings | None = None) -> list[Finding]:
    said: list[str] = []
    return MachineTest(settings or bench.settings, SystemClock(), said.append).run(reference, TAG)


def test_every_disk_is_read_over_every_way_and_nothing_stays(bench: VSphereBench) -> None:
    machine = a_machine(bench)
    settings = msgspec.structs.replace(bench.settings, transports=WAYS)
    found = outcome_of(bench, "test", settings)
    assert {one.verdict for one in found} == {Verdict.OK}, found
    checks = {one.check: one.text for one in found}
    for disk in machine.disks:
        assert checks[f"disk {disk.key} compared"] == "direct and network and https give the same bytes"
        assert checks[f"disk {disk.key} change tracking"].endswith("0 bytes changed since")
    assert {f"rate over {mode}" for mode in WAYS} < checks.keys()
    assert bench.provider.snapshots(machine.machine_id) == []


def test_a_proxy_that_is_no_machine_is_told_once(bench: VSphereBench) -> None:
    a_machine(bench)
    hot_add = [one for one in outcome_of(bench, "test") if "hot-add" in one.check]
    assert [(one.verdict, one.check) for one in hot_add] == [(Verdict.WARNING, "hot-add")]
    assert "the proxy is no machine of this vCenter" in hot_add[0].text


def test_a_way_that_fails_leaves_the_others(bench: VSphereBench) -> None:
    a_machine(bench)
    settings = msgspec.structs.replace(bench.settings, nbdkit_plugin=("no-such-plugin",))
    found = {one.check: one for one in outcome_of(bench, "test", settings)}
    broken = [one for check, one in found.items() if check.endswith("over network")]
    assert [one.verdict for one in broken] == [Verdict.WARNING, Verdict.WARNING]
    assert found["removal"].verdict is Verdict.OK


def test_without_any_way_the_disks_fail_and_the_snapshot_still_goes(bench: VSphereBench) -> None:
    machine = a_machine(bench)
    only = (TransportMode.NETWORK,)
    settings = msgspec.structs.replace(bench.settings, nbdkit_plugin=("no-such-plugin",), transports=only)
    found = {one.check: one for one in outcome_of(bench, machine.machine_id, settings)}
    assert found[f"disk {machine.disks[0].key} over network"].verdict is Verdict.FAILED
    assert found["removal"].verdict is Verdict.OK
    assert bench.provider.snapshots(machine.machine_id) == []


def test_a_snapshot_that_cannot_be_taken_is_the_finding(bench: VSphereBench) -> None:
    machine = a_machine(bench)
    rule = {"method": "CreateSnapshot_Task", "machine": bench.vm(machine.machine_id)._moId, "action": "fail-task"}
    bench.client.control("POST", "/faults", rule | {"at": 1, "times": 9, "fault": "FileLocked", "message": "no"})
    found = {one.check: one for one in outcome_of(bench, "test")}
    assert (found["snapshot"].verdict, found["snapshot"].code) == (Verdict.FAILED, SnapshotFailed.code)
    assert found["removal"].verdict is Verdict.OK


def test_a_snapshot_whose_answer_was_lost_is_removed_too(bench: VSphereBench) -> None:
    machine = a_machine(bench)
    rule = {"method": "CreateSnapshot_Task", "at": 1, "times": 1, "action": "drop-after"}
    bench.client.control("POST", "/faults", rule)
    outcome_of(bench, "test")
    bench.client.control("DELETE", "/faults")
    assert bench.provider.snapshots(machine.machine_id) == []


def test_an_interrupt_lets_the_machine_go(bench: VSphereBench) -> None:
    machine = a_machine(bench)

    def interrupted(text: str) -> None:
        if text.startswith("reading"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MachineTest(bench.settings, SystemClock(), interrupted).run("test", TAG)
    assert bench.provider.snapshots(machine.machine_id) == []


def test_a_removal_that_fails_is_told(bench: VSphereBench) -> None:
    machine = a_machine(bench)
    rule = {"method": "RemoveSnapshot_Task", "action": "fail-task", "fault": "FileLocked", "message": "no"}
    settings = msgspec.structs.replace(bench.settings, change_tracking=False)
    bench.client.control("POST", "/faults", rule | {"at": 1, "times": 9})
    found = {one.check: one for one in outcome_of(bench, "test", settings)}
    assert found["removal"].verdict is Verdict.FAILED
    assert found[f"disk {machine.disks[0].key} change tracking"].verdict is Verdict.WARNING
    assert [one.tag for one in bench.provider.snapshots(machine.machine_id)] == [TAG]


def test_snapshots_of_sessions_stay_and_are_mentioned(bench: VSphereBench) -> None:
    machine = a_machine(bench)
    kept = bench.provider.create_snapshot(machine.machine_id, session_tag(SessionId("s1")))
    found = {one.check: one for one in outcome_of(bench, "test")}
    assert "holdfast-s1" in found["other snapshots"].text
    assert bench.provider.snapshots(machine.machine_id) == [kept]


def test_a_machine_that_is_not_there_is_not_found(bench: VSphereBench) -> None:
    [finding] = outcome_of(bench, "nobody")
    assert finding.code == MachineNotFound.code
