"""Changes of a machine's chain through the activities: told in figures, and repeated without harm."""

from datetime import timedelta

from activities.chains import ChainActivities
from activities.contracts import chains
from holdfast.errors import PointNotFound
from holdfast.model.fulls import FullDays, FullPolicy, MethodOptions
from holdfast.model.ids import MachineId
from holdfast.model.machine import Machine
from holdfast.model.points import PointSummary
from holdfast.model.retention import Method
from holdfast.testing.crashfs import CrashFiles
from tests.activities.lab import PIECE, STORE, Attempt, HurriedClock, Lab, failure, run
from tests.holdfast.storage.jobs import OWNER, Job

EVERY_DAY = FullDays(weekdays=tuple(range(7)))
SYNTHETIC = MethodOptions(method=Method.FORWARD, fulls=FullPolicy(synthetic=EVERY_DAY))


def serving(lab: Lab) -> ChainActivities:
    return ChainActivities(lambda _: lab.repository, lambda _: None, HurriedClock())


def two_points(lab: Lab) -> tuple[Machine, PointSummary]:
    machine = lab.add_machine("web")
    lab.back_up(machine)
    lab.overwrite(machine, 0, PIECE)
    _, newest = lab.back_up(machine, "s2")
    return machine, newest


def wanted(
    machine: Machine, newest: PointSummary, options: MethodOptions, *, asked: bool = False
) -> chains.ChangeChain:
    return chains.ChangeChain(
        repository=STORE,
        machine_id=machine.machine_id,
        machine_name=machine.name,
        options=options,
        began=newest.created + timedelta(days=1),
        is_asked_for=asked,
    )


def test_a_synthetic_full_tells_where_the_point_is_now(lab: Lab) -> None:
    machine, newest = two_points(lab)
    changed = run(serving(lab).apply_method, wanted(machine, newest, SYNTHETIC))
    assert (changed.is_done, changed.what, changed.moved) == (True, "synthetic full", ())
    assert changed.point is not None
    assert (changed.point.point_id, changed.point.kind) == (newest.point_id, "full")
    assert changed.point.chain != newest.chain
    assert changed.moved_bytes > 0


def test_a_reversed_chain_tells_of_both_points(lab: Lab) -> None:
    machine, newest = two_points(lab)
    request = wanted(machine, newest, MethodOptions(method=Method.REVERSE))
    changed = run(serving(lab).apply_method, request)
    assert [one.kind for one in changed.moved] == ["rollback", "full"]
    assert changed.point is None
    again = run(serving(lab).apply_method, request)
    assert (again.is_done, again.moved) == (False, changed.moved)


def test_an_attempt_counts_on_from_the_one_before(lab: Lab) -> None:
    machine, newest = two_points(lab)
    attempt = Attempt(chains.ChangeCursor(moved_bytes=5))
    changed = attempt.run(serving(lab).compact, wanted(machine, newest, MethodOptions(), asked=True))
    assert (changed.what, changed.moved_bytes > 5) == ("compacted", True)
    assert attempt.beats[0] == chains.ChangeCursor(moved_bytes=5)


def test_a_compaction_that_is_not_wanted_says_why(lab: Lab) -> None:
    machine, newest = two_points(lab)
    changed = run(serving(lab).compact, wanted(machine, newest, MethodOptions()))
    assert (changed.is_done, changed.reason) == (False, "the job compacts nothing")


def test_the_full_of_a_whole_job_is_compacted_and_all_its_points_are_told(lab: Lab) -> None:
    first, second = Job(CrashFiles(), None, lab.repository).run()
    request = chains.ChangeChain(
        repository=STORE,
        machine_id=MachineId(OWNER.owner_id),
        machine_name=OWNER.name,
        options=MethodOptions(),
        began=second.created,
        is_asked_for=True,
    )
    [moved] = run(serving(lab).compact, request).moved
    assert (moved.others, moved.point_id, moved.kind) == ((first.point_id,), second.point_id, "full")


def test_a_machine_without_points_has_nothing_to_change(lab: Lab) -> None:
    machine, newest = two_points(lab)
    other = lab.add_machine("mail")
    failure(PointNotFound, serving(lab).compact, wanted(other, newest, MethodOptions()))
    assert machine.name == "web"
