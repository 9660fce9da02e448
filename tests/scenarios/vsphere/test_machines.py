"""Sessions of machines that change between runs: every point holds what the machine held, whatever was done to it."""

import random

import pytest

from holdfast.errors import QuiesceFailed
from holdfast.model.ids import ProviderName
from holdfast.model.machine import Quiesce
from holdfast.model.session import Outcome
from tests.lab.vcenter.client import MIB
from tests.scenarios.vsphere.installation import DIRECT, HTTPS, NETWORK
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]


async def test_a_machine_comes_back_as_it_was_at_each_point(stage: Stage) -> None:
    machine = stage.machine("web")
    files = stage.files()
    first = await stage.run(stage.backup(machine, verify=True))
    before = stage.content(machine)
    stage.write(machine)
    second = await stage.run(stage.backup(machine, verify=True))
    assert [found.session.outcome for found in (first, second)] == [Outcome.SUCCESS] * 2
    assert [found.points[0].kind for found in (first, second)] == ["full", "increment"]
    assert second.session.figures.read_bytes < MIB
    stage.expect_nothing_left(files)
    assert stage.stored(machine, first.points[0].point_id) == before
    await stage.run(stage.restore(machine, point=first.points[0].point_id, new_name="web-before"))
    await stage.run(stage.restore(machine, new_name="web-now"))
    assert list(stage.content(stage.named("web-before")).values()) == list(before.values())
    assert list(stage.content(stage.named("web-now")).values()) == list(stage.content(machine).values())
    await stage.expect_sound(machine)


async def test_a_new_machine_has_the_nvram_that_the_machine_had_at_the_point(stage: Stage) -> None:
    """Byte by byte, of the point that is restored and not of the machine now; the vmx is the new machine's own."""
    machine = stage.machine("firmware")
    nvram, newer = random.Random(11).randbytes(8684), random.Random(12).randbytes(8684)
    stage.nvram(machine).write_bytes(nvram)
    first = await stage.run(stage.backup(machine, verify=True))
    assert first.session.outcome is Outcome.SUCCESS
    stage.nvram(machine).write_bytes(newer)
    await stage.run(stage.backup(machine, verify=True))
    result = await stage.run(stage.restore(machine, point=first.points[0].point_id, new_name="firmware-before"))
    assert result.session.outcome is Outcome.SUCCESS
    restored = stage.named("firmware-before")
    assert stage.nvram(restored).read_bytes() == nvram
    assert stage.nvram(machine).read_bytes() == newer
    found = stage.kept_files(machine, first.points[0].point_id)
    assert {name.rpartition(".")[2]: content for name, content in found.items()}["nvram"] == nvram
    assert {stage.vm(one).config.uuid for one in (machine, restored)} > {stage.vm(machine).config.uuid}
    await stage.expect_sound(machine)


async def test_files_that_cannot_be_read_or_written_cost_no_disk(stage: Stage) -> None:
    machine = stage.machine("refused")
    rule = stage.fault("folder:GET", "drop", times=100)
    result = await stage.run(stage.backup(machine, DIRECT))
    assert stage.hits(rule) > 0
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.kept_files(machine) == {}
    stage.heal()
    await stage.run(stage.backup(machine, DIRECT))
    rule = stage.fault("folder:PUT", "drop", times=100)
    stage.nvram(machine).write_bytes(b"variables")
    await stage.run(stage.backup(machine, DIRECT))
    result = await stage.run(stage.restore(machine, new_name="refused-copy"))
    assert stage.hits(rule) > 0
    assert result.session.outcome is Outcome.WARNING
    assert any("was not restored" in note for note in result.session.notes)
    assert list(stage.content(stage.named("refused-copy")).values()) == list(stage.content(machine).values())
    stage.heal()
    await stage.expect_sound(machine)


@pytest.mark.parametrize(
    "provider",
    [pytest.param(DIRECT, marks=pytest.mark.soak), HTTPS, pytest.param(NETWORK, marks=pytest.mark.tools("nbdkit"))],
)
async def test_increments_are_right_over_every_transport(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"over-{provider}")
    for kind in ("full", "increment"):
        result = await stage.run(stage.backup(machine, provider))
        assert (result.session.outcome, result.points[0].kind) == (Outcome.SUCCESS, kind)
        assert {f"over {provider}" in task.detail for task in result.tasks} == {True}
        assert stage.stored(machine) == stage.content(machine)
        stage.write(machine, 5 * MIB)
    await stage.expect_sound(machine)


async def test_a_disk_that_was_extended_is_in_the_increment_with_its_new_end(stage: Stage) -> None:
    machine = stage.machine("grown")
    await stage.run(stage.backup(machine))
    stage.switch_off(machine)
    stage.bench.grow_disk(machine.machine_id, machine.disks[1].key, 8 * MIB)
    stage.switch_on(machine)
    stage.write(machine, 7 * MIB, disk=1)
    result = await stage.run(stage.backup(machine))
    assert result.session.outcome in {Outcome.SUCCESS, Outcome.WARNING}
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine)


async def test_a_disk_that_was_added_is_read_whole_and_the_others_are_not(stage: Stage) -> None:
    machine = stage.machine("wider")
    await stage.run(stage.backup(machine))
    key = stage.bench.add_disk(machine.machine_id, 2 * MIB)
    stage.write(machine, 0, 2 * MIB, disk=2)
    result = await stage.run(stage.backup(machine))
    assert {task.disk: task.detail.partition(" ")[0] for task in result.tasks}[key] == "full"
    assert result.points[0].kind == "increment"
    assert result.session.figures.read_bytes < 4 * MIB
    assert stage.stored(machine) == stage.content(machine)
    assert len(stage.stored(machine)) == 3
    await stage.expect_sound(machine)


async def test_a_disk_that_was_removed_is_missing_in_the_new_point_alone(stage: Stage) -> None:
    machine = stage.machine("narrower")
    first = await stage.run(stage.backup(machine))
    before = stage.content(machine)
    stage.bench.remove_disk(machine.machine_id, machine.disks[1].key)
    await stage.run(stage.backup(machine))
    assert stage.stored(machine) == stage.content(machine)
    assert set(stage.stored(machine)) == {machine.disks[0].key}
    assert stage.stored(machine, first.points[0].point_id) == before
    await stage.expect_sound(machine)


async def test_a_machine_that_was_renamed_goes_on_with_its_chain(stage: Stage) -> None:
    machine = stage.machine("before-marriage")
    first = await stage.run(stage.backup(machine))
    stage.vc.wait(stage.vm(machine).Rename_Task("after-marriage"))
    stage.write(machine)
    second = await stage.run(stage.backup("after-marriage"))
    [point] = second.points
    assert (point.machine_name, point.kind, point.chain) == ("after-marriage", "increment", first.points[0].chain)
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine)


@pytest.mark.parametrize("provider", [pytest.param(DIRECT, marks=pytest.mark.soak), HTTPS])
async def test_a_machine_that_moved_goes_on_with_its_chain(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"moved-{provider}")
    await stage.run(stage.backup(machine, provider))
    stage.move(machine)
    stage.write(machine)
    result = await stage.run(stage.backup(machine, provider))
    assert (result.session.outcome, result.points[0].kind) == (Outcome.SUCCESS, "increment")
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine)


async def test_tracking_that_began_anew_is_a_note_and_loses_nothing(stage: Stage) -> None:
    machine = stage.machine("unlucky")
    await stage.run(stage.backup(machine))
    stage.control("POST", "/power-loss", {"machine": machine.name})
    stage.switch_on(machine)
    stage.write(machine)
    result = await stage.run(stage.backup(machine))
    assert result.session.outcome is Outcome.WARNING
    assert "tracking began anew since the earlier point" in result.session.notes[0]
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine)


async def test_a_reverted_machine_is_compared_and_never_mixed(stage: Stage) -> None:
    machine = stage.machine("reverted")
    taken = stage.vc.snapshot(stage.vm(machine), "before the update")
    stage.write(machine)
    await stage.run(stage.backup(machine, NETWORK))
    stage.vc.wait(taken.RevertToSnapshot_Task())
    stage.vc.remove(taken)
    if stage.vm(machine).runtime.powerState != "poweredOn":
        stage.switch_on(machine)
    await stage.run(stage.backup(machine))
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine)


@pytest.mark.parametrize("provider", [pytest.param(DIRECT, marks=pytest.mark.soak), HTTPS])
async def test_what_change_tracking_hides_is_found_by_who_distrusts_it(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"lied-to-{provider}")
    await stage.run(stage.backup(machine, provider))
    lie = {"machine": machine.name, "key": int(machine.disks[0].key), "areas": [{"start": 2 * MIB, "length": MIB}]}
    stage.control("POST", "/tracking-lies", lie)
    stage.write(machine, 2 * MIB + 4096)
    await stage.run(stage.backup(machine, provider, sample_mib=0))
    assert stage.stored(machine) != stage.content(machine)
    result = await stage.run(stage.backup(machine, provider, distrust_changes=True))
    assert result.session.outcome is Outcome.SUCCESS
    assert stage.stored(machine) == stage.content(machine)
    stage.control("POST", "/tracking-lies", lie | {"areas": []})
    await stage.expect_sound(machine)


@pytest.mark.parametrize("provider", [pytest.param(DIRECT, marks=pytest.mark.soak), HTTPS])
async def test_what_change_tracking_hides_is_noticed_by_samples_and_said(stage: Stage, provider: ProviderName) -> None:
    machine = stage.machine(f"caught-{provider}")
    await stage.run(stage.backup(machine, provider))
    lie = {"machine": machine.name, "key": int(machine.disks[0].key), "areas": [{"start": 2 * MIB, "length": MIB}]}
    stage.control("POST", "/tracking-lies", lie)
    stage.write(machine, 2 * MIB + 4096)
    result = await stage.run(stage.backup(machine, provider))
    assert result.session.outcome is Outcome.WARNING
    assert "change tracking left a change out" in result.session.notes[0]
    assert stage.stored(machine) == stage.content(machine)
    stage.control("POST", "/tracking-lies", lie | {"areas": []})
    await stage.expect_sound(machine)


@pytest.mark.tools("nbdkit")
async def test_snapshots_of_others_stay_and_make_the_network_the_way(stage: Stage) -> None:
    machine = stage.machine("shared")
    await stage.run(stage.backup(machine))
    taken = stage.vc.snapshot(stage.vm(machine), "before the update")
    stage.write(machine)
    result = await stage.run(stage.backup(machine))
    for task in result.tasks:
        assert " over network: " in task.detail
        assert "not direct: the machine had snapshots before ours" in task.detail
    assert stage.stored(machine) == stage.content(machine)
    assert [entry.name for entry in stage.vm(machine).snapshot.rootSnapshotList] == ["before the update"]
    assert stage.snapshots() == []
    stage.vc.remove(taken)
    await stage.expect_sound(machine)


async def test_a_guest_that_must_come_to_rest_and_cannot_fails_the_session(stage: Stage) -> None:
    machine = stage.machine("restless")
    files = stage.files()
    stage.control("POST", "/tools", {"machine": machine.name, "running": False})
    error = await stage.failure(stage.backup(machine, quiesce=Quiesce.REQUIRE))
    assert isinstance(error, QuiesceFailed)
    assert machine.name in error.message
    assert stage.points(machine) == 0
    stage.expect_nothing_left(files)
    result = await stage.run(stage.backup(machine, quiesce=Quiesce.TRY))
    assert result.session.outcome is Outcome.WARNING
    assert "crash-consistent" in result.session.notes[0]
    await stage.expect_sound(machine, files)
