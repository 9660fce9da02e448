"""What others do to a machine in the middle of its backup: the point holds one moment, or there is none."""

import pytest

from holdfast.errors import MachineNotFound, SnapshotNotFound
from holdfast.model.ids import ProviderName
from holdfast.model.session import Outcome
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import DIRECT, HTTPS, NETWORK
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

WAYS = pytest.mark.parametrize(
    "provider", [DIRECT, HTTPS, pytest.param(NETWORK, marks=[pytest.mark.tools("nbdkit"), pytest.mark.soak])]
)
WAYS_MOSTLY_SOAKED = pytest.mark.parametrize(
    "provider",
    [
        pytest.param(DIRECT, marks=pytest.mark.soak),
        HTTPS,
        pytest.param(NETWORK, marks=[pytest.mark.tools("nbdkit"), pytest.mark.soak]),
    ],
)


@WAYS_MOSTLY_SOAKED
async def test_what_a_guest_writes_meanwhile_is_in_the_next_point(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"busy-{provider}", 24)
    files = stage.files()
    before = stage.content(machine)
    async with stage.in_the_middle(stage.backup(machine, provider)) as handle:
        stage.write(machine, 20 * MIB, MIB)
    result = await handle.result()
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == before != stage.content(machine)
    result = await stage.expect_sound(machine, files)
    assert MIB <= result.session.figures.read_bytes < 4 * MIB


@WAYS
async def test_a_snapshot_that_somebody_removed_makes_no_point(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"thawed-{provider}", 24)
    files = stage.files()
    async with stage.in_the_middle(stage.backup(machine, provider)) as handle:
        stage.write(machine, 20 * MIB, MIB)
        stage.vc.wait(stage.vm(machine).RemoveAllSnapshots_Task())
        stage.write(machine, 18 * MIB, MIB)
    error = await stage.error_of(handle)
    assert isinstance(error, SnapshotNotFound)
    assert machine.machine_id in error.message
    assert stage.points(machine) == 0
    await stage.expect_sound(machine, files)


@WAYS_MOSTLY_SOAKED
async def test_a_machine_that_moves_in_the_middle_gets_its_point(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"moving-{provider}", 24)
    await stage.run(stage.backup(machine))
    async with stage.in_the_middle(stage.backup(machine, provider, full=True)) as handle:
        stage.move(machine)
        moved = stage.content(machine)
    result = await handle.result()
    assert stage.stored(machine) == moved
    notes = [note for note in result.session.notes if "copied again from the start" in note]
    if provider == DIRECT:  # the file that was open stayed open, so nothing else told of the move
        assert result.session.outcome is Outcome.WARNING
        [note] = notes
        assert f"{machine.name}/{machine.disks[0].key}: " in note
        assert "because the disk moved while it was copied, and lies at [" in note
    else:  # what was read before the move counts only when it was committed
        assert result.session.outcome is (Outcome.WARNING if notes else Outcome.SUCCESS)
    await stage.expect_sound(machine)


@pytest.mark.tools("nbdkit")
async def test_a_disk_whose_snapshot_below_is_folded_in_the_middle_is_copied_again(stage: Stage) -> None:
    machine = stage.machine("folded", 24)
    await stage.run(stage.backup(machine))  # switches change tracking on
    by_hand = stage.vc.snapshot(stage.vm(machine), "by hand")
    before = stage.content(machine)
    async with stage.in_the_middle(stage.backup(machine, NETWORK, full=True)) as handle:
        stage.vc.remove(by_hand)
    result = await handle.result()
    assert stage.stored(machine) == before
    assert [note for note in result.session.notes if "copied again from the start" in note]
    await stage.expect_sound(machine)


@WAYS
async def test_a_machine_that_is_deleted_in_the_middle_makes_no_point(stage: Stage, provider: ProviderName) -> None:
    files = stage.files()
    machine = stage.machine(f"deleted-{provider}", 24)
    async with stage.in_the_middle(stage.backup(machine, provider)) as handle:
        stage.switch_off(machine)
        stage.vc.wait(stage.vm(machine).Destroy_Task())
    error = await stage.error_of(handle)
    assert isinstance(error, MachineNotFound | SnapshotNotFound)
    # Whichever is asked for first is what is found to be gone.
    assert machine.machine_id in error.message or "snapshot-" in error.message
    assert stage.points(machine) == 0
    stage.expect_nothing_left(files)
    assert isinstance(await stage.failure(stage.backup(machine)), MachineNotFound)
