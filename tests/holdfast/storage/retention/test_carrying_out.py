"""A plan carried out: what was planned and nothing else, again after a stop, and never past a lock."""

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
from typing_extensions import override

from holdfast.errors import OperationCancelled, PointLocked, RequestInvalid
from holdfast.model.retention import KeepUnit, Method, RetentionOptions, RetentionPolicy, WeeklyRule
from holdfast.planning.retention import Verdict
from holdfast.planning.retention_steps import RetentionStep
from holdfast.storage.chains.chain import chain_file_names
from holdfast.storage.files.atomic import FileHandle
from holdfast.storage.files.immutable import is_immutable, set_immutable
from holdfast.storage.methods.upkeep import ChainUpkeep
from holdfast.storage.retention.carrying_out import StepResult, StepWorker
from holdfast.storage.retention.graveyard import lock_points
from holdfast.storage.retention.looking import PlanWish, plan_machine, take_note
from holdfast.testing.chains import ProtectedMachine
from holdfast.testing.crashfs import CrashFiles
from tests.holdfast.storage.aging import age, look, on_disk, planned, points_rule
from tests.holdfast.storage.conftest import make_machine


def carry_out(machine: ProtectedMachine, steps: tuple[RetentionStep, ...]) -> list[StepResult]:
    worker = StepWorker(machine.repository, machine.store.passphrase, machine.clock.now())
    return [worker.run(step, lambda *_: None) for step in steps]


def points_of(machine: ProtectedMachine) -> list[str]:
    return [found.point.id for found in machine.repository.points(machine.store.passphrase)]


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_points_that_are_left_are_those_of_the_plan_and_read_as_before(keep: int, passphrase: str | None) -> None:
    machine = make_machine({"disk0": 6}, passphrase=passphrase)
    age(machine, 5)
    plan = planned(machine, points_rule(keep))
    carry_out(machine, plan.steps)
    kept = [point.point_id for point in plan.judgement.plan.points if point.verdict is Verdict.KEPT]
    assert points_of(machine) == kept
    machine.kept = [point for point in machine.kept if point.summary.point_id in kept]
    assert machine.differences() == []
    assert planned(machine, points_rule(keep)).steps == ()


@pytest.mark.parametrize("turn", range(8))
def test_what_runs_is_what_was_printed_whatever_the_chains_and_rules_are(turn: int, seed: int) -> None:
    chance = random.Random(seed + turn)
    machine = make_machine({"disk0": 6}, seed=turn + 1)
    for day in range(chance.randint(3, 7)):
        machine.store = msgspec.structs.replace(machine.store, full=chance.random() < 0.3)
        age(machine, 1, behind=day)
    policy = RetentionPolicy(
        keep=chance.randint(1, 4), unit=chance.choice(list(KeepUnit)), minimum_points=1, weekly=WeeklyRule(weeks=1)
    )
    rules = RetentionOptions(policy=policy, method=chance.choice([Method.FOREVER, Method.FORWARD]))
    plan = planned(machine, rules)
    assert planned(machine, rules).digest == plan.digest
    carry_out(machine, plan.steps)
    kept = {point.point_id for point in plan.judgement.plan.points if point.verdict is Verdict.KEPT}
    assert set(points_of(machine)) == kept
    machine.kept = [point for point in machine.kept if point.summary.point_id in kept]
    assert machine.differences() == []


def test_a_merge_says_where_the_point_is_now() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    [done] = carry_out(machine, planned(machine, points_rule(1)).steps)
    [found] = machine.repository.points()
    assert (done.holder, done.kind, done.point_id) == (found.file, "full", found.point.id)
    assert done.moved_bytes > 0


def test_a_step_is_repeated_without_harm() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    steps = planned(machine, points_rule(1)).steps
    first = carry_out(machine, steps)
    again = carry_out(machine, steps)
    assert [msgspec.structs.replace(one, moved_bytes=0) for one in first] == again


def test_a_merge_that_was_stopped_goes_on_and_every_point_reads_meanwhile() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 4)
    steps = planned(machine, points_rule(1)).steps

    def stop(files_done: int, moved_bytes: int) -> None:
        if moved_bytes:
            raise OperationCancelled(f"asked to stop behind {files_done} files")

    with pytest.raises(OperationCancelled):
        StepWorker(machine.repository, None, machine.clock.now()).run(steps[0], stop)
    assert machine.differences() == []
    carry_out(machine, planned(machine, points_rule(1)).steps)
    machine.kept = machine.kept[-1:]
    assert machine.differences() == []


def left_by_a_dead_merge(machine: ProtectedMachine) -> Path:
    """Merge the second point into the full, and let the file that was merged be there all the same."""
    files, folder = machine.repository.files, look(machine).chains[0].folder
    path = folder / "00000002-increment.hfc"
    content = files.read(path)
    ChainUpkeep(files, folder, None).merge("00000001-full.hfc", path.name)
    files.create(path).close()
    files.set_content(path, content)  # type: ignore[attr-defined]
    return path


def test_a_merged_file_that_a_dead_process_left_is_removed_by_the_next_plan() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 3)
    path = left_by_a_dead_merge(machine)
    steps = planned(machine, points_rule(9)).steps
    assert [(step.files, step.points) for step in steps] == [((path.name,), ())]
    carry_out(machine, steps)
    assert path.name not in chain_file_names(machine.repository.files, path.parent)


def test_several_merged_files_that_a_dead_process_left_are_removed_in_one_step() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 5)
    files, folder = machine.repository.files, look(machine).chains[0].folder
    names = tuple(f"{number:08d}-increment.hfc" for number in (2, 3, 4))
    contents = {name: files.read(folder / name) for name in names}
    ChainUpkeep(files, folder, None).merge_all("00000001-full.hfc", names)
    for name, content in contents.items():
        files.create(folder / name).close()
        files.set_content(folder / name, content)  # type: ignore[attr-defined]
    steps = planned(machine, points_rule(9)).steps
    assert [(step.files, step.into, step.points) for step in steps] == [(names, "00000001-full.hfc", ())]
    carry_out(machine, steps)
    assert chain_file_names(files, folder) == ["00000001-full.hfc", "00000005-increment.hfc"]
    machine.kept = machine.kept[3:]
    assert machine.differences() == []


def test_a_merged_file_that_a_dead_process_left_is_removed_though_the_full_holds_a_locked_point() -> None:
    # A reverse step that dies leaves this each time: the newest point, which is locked, is in the full.
    machine = make_machine({"disk0": 6})
    clock = age(machine, 3)
    path = left_by_a_dead_merge(machine)
    [chain] = look(machine).chains
    lock_points(machine.repository, chain.name, [chain.files[0].point_id], None, clock.now() + timedelta(days=2))
    steps = planned(machine, points_rule(9)).steps
    carry_out(machine, steps)
    assert path.name not in chain_file_names(machine.repository.files, path.parent)
    carry_out(machine, steps)
    machine.kept = machine.kept[1:]
    assert machine.differences() == []


def test_a_chain_that_is_over_is_removed_and_can_be_taken_back() -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 2)
    machine.store = msgspec.structs.replace(machine.store, full=True)
    age(machine, 1, behind=2)
    plan = planned(machine, msgspec.structs.replace(points_rule(1), method=Method.FORWARD))
    [step] = plan.steps
    assert (step.into, len(step.files)) == ("", 2)
    carry_out(machine, plan.steps)
    assert len(points_of(machine)) == 1
    ChainUpkeep(machine.repository.files, machine.repository.chain_folder(step.chain), None).take_back()
    assert len(points_of(machine)) == 3
    assert machine.differences() == []


def test_nothing_goes_past_a_lock_until_it_ends() -> None:
    machine = make_machine({"disk0": 6})
    clock = age(machine, 3)
    steps = planned(machine, points_rule(1)).steps
    seen, wish = look(machine), PlanWish(options=points_rule(9, lock_days=5), now=clock.now())
    take_note(machine.repository, seen, plan_machine(seen, wish), wish)
    [chain] = seen.chains
    removal = RetentionStep(chain=chain.name, files=(chain.files[-1].name,), points=(), size_bytes=0)
    for step in (*steps, removal):
        with pytest.raises(PointLocked, match="is locked until 2026-11-0"):
            carry_out(machine, (step,))
    clock.moment += timedelta(days=6)
    carry_out(machine, steps)
    assert len(points_of(machine)) == 1


class Meanwhile(CrashFiles):
    """Files among which something happens just before the next step gets the lock of a chain."""

    happening: Callable[[], object] | None = None

    @override
    def open_lock(self, path: Path) -> FileHandle:
        happening, self.happening = self.happening, None
        if happening is not None:
            happening()
        return super().open_lock(path)


@pytest.mark.parametrize("is_removal", [False, True], ids=["merge", "removal"])
def test_a_point_that_is_locked_while_its_step_begins_stays(is_removal: bool) -> None:
    files = Meanwhile([Path("/")])
    machine = make_machine({"disk0": 6}, files)
    clock = age(machine, 3)
    steps = planned(machine, points_rule(1)).steps
    [chain] = look(machine).chains
    if is_removal:
        steps = (RetentionStep(chain=chain.name, files=(chain.files[-1].name,), points=(), size_bytes=0),)
    point, until = chain.files[-1 if is_removal else 0].point_id, clock.now() + timedelta(days=2)
    files.happening = partial(lock_points, machine.repository, chain.name, [point], None, until)
    with pytest.raises(PointLocked):
        carry_out(machine, steps)
    assert len(points_of(machine)) == 3
    assert machine.differences() == []
    clock.moment = until
    carry_out(machine, steps)
    assert len(points_of(machine)) == (2 if is_removal else 1)


@pytest.mark.parametrize("name", ["../00000001-full.hfc", "chain.hfm"])
def test_a_step_names_chain_files_only(name: str) -> None:
    machine = make_machine({"disk0": 6})
    age(machine, 1)
    step = RetentionStep(chain=look(machine).chains[0].name, files=(name,), points=(), size_bytes=0)
    with pytest.raises(RequestInvalid):
        carry_out(machine, (step,))


def test_a_full_that_a_locked_point_needs_takes_an_earlier_point_in_and_is_immutable_again(tmp_path: Path) -> None:
    machine = on_disk(tmp_path / "repository")
    clock = age(machine, 4)
    [chain] = look(machine).chains
    lock_points(machine.repository, chain.name, [chain.files[2].point_id], None, clock.now() + timedelta(days=2))
    seen, wish = look(machine), PlanWish(options=points_rule(2), now=clock.now(), has_consent=True)
    plan = plan_machine(seen, wish)
    paths = [chain.folder / file.name for file in chain.files]
    try:
        is_kept = take_note(machine.repository, seen, plan, wish) == "locked files are immutable"
        assert [is_immutable(path) for path in paths] == [is_kept, is_kept, is_kept, False]
        [step] = plan.steps
        assert (step.into, step.files) == (paths[0].name, (paths[1].name,))
        carry_out(machine, plan.steps)
        assert is_immutable(paths[0]) == is_kept
    finally:
        for path in chain.folder.glob("*.hfc"):
            set_immutable(path, wanted=False)
    machine.kept = machine.kept[1:]
    assert machine.differences() == []
