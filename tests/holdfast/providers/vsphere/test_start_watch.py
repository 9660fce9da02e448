"""A machine remembers that it was switched on, for as long as somebody has to know."""

from typing import Any

import pytest

from holdfast.clock import SystemClock
from holdfast.model.ids import TargetId
from holdfast.model.machine import PowerState
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.labels import SnapshotLabel
from holdfast.providers.vsphere.start_watch import StartWatch, Watched
from holdfast.testing.provider_bench import MIB
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import vim

pytestmark = pytest.mark.vsphere
TARGET = TargetId("ab" * 16)
LABEL = SnapshotLabel(tag="one", target_id=TARGET, is_watched=True)


def test_a_start_is_remembered_when_the_machine_is_off_again(bench: VSphereBench, connection: Connection) -> None:
    machine = bench.make_machine("web", [MIB])
    watch, vm = StartWatch(connection, SystemClock()), bench.vm(machine.machine_id)
    assert watch.state(vm, LABEL) is Watched.NOT_YET
    watch.begin(vm, TARGET)
    assert watch.state(vm, LABEL) is Watched.OFF
    assert watch.state(vm, SnapshotLabel(tag="one", target_id="another", is_watched=True)) is Watched.NOT_YET
    for power in (PowerState.ON, PowerState.OFF):
        bench.provider.set_power(machine.machine_id, power)
        assert watch.state(vm, LABEL) is Watched.STARTED
    assert watch.state(vm, SnapshotLabel(tag="one", target_id=TARGET)) is Watched.UNKNOWN


@pytest.mark.parametrize("is_setup_due", [True, False])
def test_the_next_start_is_as_it_was_when_the_watch_has_ended(
    bench: VSphereBench, connection: Connection, *, is_setup_due: bool
) -> None:
    vm: Any = bench.vm(bench.make_machine("web", [MIB]).machine_id)
    bench.client.reconfigure(vm, bootOptions=vim.vm.BootOptions(enterBIOSSetup=is_setup_due))
    snapshot = bench.client.snapshot(vm)
    watch = StartWatch(connection, SystemClock())
    watch.begin(vm, TARGET)
    for _ in range(2):
        watch.end(vm, snapshot)
        assert watch.state(vm, LABEL) is Watched.NOT_YET
        assert bool(vm.config.bootOptions.enterBIOSSetup) is is_setup_due
