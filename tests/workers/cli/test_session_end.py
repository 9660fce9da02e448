"""How a session ended decides the exit status and what stands beside it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.errors import ChainBusy, ServerUnavailable
from holdfast.model.health import ClosedChain, ScrubReport
from holdfast.model.ids import ChainId, DiskKey, FileId, JobName, MachineId, PointId, RepositoryName, SessionId
from holdfast.model.machine import Machine, PowerState
from holdfast.model.points import Damage, PointSummary, VerifyReport
from holdfast.model.session import Figures, Outcome, Problem, Session, SessionKind, Task
from holdfast.planning.sweep import Decision, Kind
from tests.workers.cli.place import Place
from workers.cli import session_end
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Flags, Invocation
from workflows.messages import MachineUpkeepResult, SessionResult, SweepReport

START = datetime(2025, 1, 1, tzinfo=UTC)
SESSION = Session(
    session_id=SessionId("s1"),
    kind=SessionKind.BACKUP,
    job=JobName("nightly"),
    repository=RepositoryName("main"),
    outcome=Outcome.SUCCESS,
    started=START,
    ended=START + timedelta(seconds=90),
    figures=Figures(size_bytes=1 << 30, read_bytes=1 << 20, stored_bytes=1 << 19),
    notes=("read in full",),
)
DAMAGE = Damage(
    chain="c", point=3, machine="web", disk=DiskKey("boot"), offset=65536, length=4096, file="f.hfc", reason="bad"
)


def run_of(place: Place, *, json: bool = False) -> Invocation:
    return Invocation(Flags(config=place.config, json=json))


def ended(outcome: Outcome, problem: Problem | None = None) -> SessionResult:
    return SessionResult(session=msgspec.structs.replace(SESSION, outcome=outcome, problem=problem))


def test_a_success_shows_everything(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    task = Task(
        session_id=SESSION.session_id,
        machine_id=MachineId("m"),
        machine_name="web",
        disk=DiskKey("boot"),
        outcome=Outcome.SUCCESS,
        detail="full: first",
        figures=Figures(size_bytes=1 << 30, read_bytes=1 << 20, duration_s=1.0),
    )
    point = PointSummary(
        chain="c",
        chain_id=ChainId("c" * 32),
        file="f",
        file_id=FileId("f" * 32),
        number=1,
        point_id=PointId("ab" * 16),
        kind="full",
        machine_id=MachineId("m"),
        machine_name="web",
        created=START,
        root="r",
        size_bytes=1 << 30,
        file_bytes=1 << 20,
        generation=1,
    )
    machine = Machine(machine_id=MachineId("m2"), name="copy", power=PowerState.OFF, disks=())
    result = SessionResult(
        session=SESSION, tasks=(task,), points=(point,), machine=machine, report=VerifyReport(points=1)
    )
    session_end.finish(run_of(place), result)
    shown = capsys.readouterr().out
    for word in (
        "success after 1 min 30 s",
        "1.0 GiB",
        "full: first",
        "point abababababab of web",
        "copy",
        "note",
        "good",
    ):
        assert word in shown


def a_task(machine: str, disk: str, **seconds: float) -> Task:
    return Task(
        session_id=SESSION.session_id,
        machine_id=MachineId(machine),
        machine_name=machine,
        disk=DiskKey(disk),
        outcome=Outcome.SUCCESS,
        figures=msgspec.structs.replace(
            Figures(size_bytes=4 << 30, processed_bytes=1 << 30, duration_s=10.0), **seconds
        ),
    )


def test_the_bottleneck_is_told_of_each_disk_each_machine_and_all(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = (
        a_task("web", "boot", source_s=9.0, proxy_s=2.0, target_s=1.0),
        a_task("web", "data", source_s=2.0, proxy_s=4.0, network_s=8.0, target_s=2.0),
        a_task("db", "boot", throttled_s=10.0),
        a_task("old", "boot"),
    )
    figures = sum((task.figures for task in tasks), Figures())
    session = msgspec.structs.replace(SESSION, figures=figures)
    session_end.finish(run_of(place), SessionResult(session=session, tasks=tasks))
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "BUSY SOURCE PROXY NETWORK TARGET THROTTLING BOTTLENECK" in shown
    assert "all 28 % 15 % 20 % 8 % 25 % Source" in shown
    assert "web 55 % 30 % 40 % 15 % Source" in shown
    assert "web/boot 90 % 20 % 10 % Source" in shown
    assert "web/data 20 % 40 % 80 % 20 % Network" in shown
    assert "db/boot 0 % 0 % 0 % 100 % Throttling" in shown
    assert not [line for line in shown if line.startswith("old/")]
    assert any("1.0 GiB of 4.0 GiB" in line for line in shown)
    session_end.finish(run_of(place, json=True), SessionResult(session=session, tasks=tasks))
    assert msgspec.json.decode(capsys.readouterr().out)["bottleneck"] == "Source"


@pytest.mark.parametrize(
    "outcome, problem, status",
    [
        (Outcome.CANCELLED, None, 64),
        (Outcome.FAILED, None, 66),
        (Outcome.FAILED, Problem(code="repository-full", message="no space", hint="Free some."), 42),
        (Outcome.FAILED, Problem(code="of-a-later-version", message="strange"), 66),
    ],
)
def test_no_success_ends_with_the_status_of_its_problem(
    place: Place, outcome: Outcome, problem: Problem | None, status: int
) -> None:
    with pytest.raises(CommandFailed) as caught:
        session_end.finish(run_of(place), ended(outcome, problem))
    assert caught.value.error.exit_status == status
    assert {
        "session",
        "tasks",
        "points",
        "report",
        "machine",
        "swept",
        "retained",
        "scrub",
        "repair",
        "bottleneck",
        "error",
    } == set(caught.value.document)


@pytest.mark.parametrize("outcome", [Outcome.SUCCESS, Outcome.WARNING])
def test_a_warning_is_no_failure(place: Place, outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    session_end.finish(run_of(place, json=True), ended(outcome))
    assert msgspec.json.decode(capsys.readouterr().out)["session"]["outcome"] == outcome.value


def test_damage_is_listed_and_fails(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    report = VerifyReport(damages=(DAMAGE,) * 60, unnamed_damages=7)
    with pytest.raises(CommandFailed) as caught:
        session_end.finish_verification(run_of(place), report, "repository main")
    assert caught.value.error.message == "67 damaged spans in repository main"
    shown = capsys.readouterr().out
    assert "web" in shown
    assert "and 17 more" in shown


def test_what_a_scrub_could_not_open_is_shown_as_not_read(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    closed = ClosedChain(chain="machines/web/1", code="passphrase-wrong", reason="encrypted", due_bytes=1 << 30)
    run_of(place).show(None, *session_end.scrub_parts(ScrubReport(closed=(closed,))))
    assert "not read: 1 GiB due, of 1 closed chain" in capsys.readouterr().out


def test_no_damage_is_good(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    session_end.finish_verification(run_of(place), VerifyReport(points=2, units=3), "x")
    assert capsys.readouterr().out == "good: 2 points in 1 chain, 3 units, 0 B read\n"


def test_a_sweep_says_what_it_did_and_why(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    gone = Decision(kind=Kind.SNAPSHOT, machine_name="web", is_removed=True, reason="session s1 is over", tag="t1")
    stuck = msgspec.structs.replace(gone, tag="t2", problem="its files are locked")
    kept = msgspec.structs.replace(gone, tag="t3", is_removed=False, reason="session s2 still runs")
    report = SweepReport(decisions=(gone, stuck, kept), removed=1, kept=1)
    session_end.finish(run_of(place), msgspec.structs.replace(ended(Outcome.WARNING), swept=report))
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = {line[-1]: " ".join(line) for line in shown}
    assert rows["t1"] == "snapshot web removed session s1 is over t1"
    assert rows["t2"] == "snapshot web kept its files are locked t2"
    assert rows["t3"] == "snapshot web kept session s2 still runs t3"
    assert "1 removed, 1 kept" in [" ".join(line) for line in shown]
    trial = msgspec.structs.replace(report, decisions=(gone,), is_dry_run=True)
    session_end.finish(run_of(place), msgspec.structs.replace(ended(Outcome.SUCCESS), swept=trial))
    assert "would be removed" in capsys.readouterr().out
    session_end.finish(run_of(place), msgspec.structs.replace(ended(Outcome.SUCCESS), swept=SweepReport()))
    assert "nothing of dead sessions is there" in capsys.readouterr().out


UPKEEP = MachineUpkeepResult(machine_id=MachineId("m"), machine_name="web", lines=(("Compaction", "5 GiB freed"),))


def test_upkeep_says_what_it_did_and_what_to_look_at(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    session_end.finish_upkeep(run_of(place), msgspec.structs.replace(UPKEEP, notes=("a note",)))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("Compaction: 5 GiB freed\n", "warning: a note\n")
    session_end.finish_upkeep(run_of(place, json=True), UPKEEP)
    assert msgspec.json.decode(capsys.readouterr().out)["lines"] == [["Compaction", "5 GiB freed"]]


@pytest.mark.parametrize(
    "problem, status",
    [
        (Problem(code="repository-full", message="no space"), 42),
        (None, 66),  # as a worker of an earlier version has it
    ],
)
def test_upkeep_that_did_not_do_what_was_asked_for_ends_with_its_problem(
    place: Place, problem: Problem | None, status: int
) -> None:
    notes = ("compaction of web: no space",)
    with pytest.raises(CommandFailed) as caught:
        session_end.finish_upkeep(
            run_of(place), msgspec.structs.replace(UPKEEP, lines=(), notes=notes, problem=problem)
        )
    assert caught.value.error.exit_status == status
    assert "no space" in caught.value.error.message
    assert (caught.value.document["notes"], "error" in caught.value.document) == (notes, True)


IDS = session_end.SessionIds(session_id=SessionId("s2"), workflow_id="quick/db", run_id="r2")
REFUSED = session_end.Unfollowed(
    ids=msgspec.structs.replace(IDS, run_id=None), error=ChainBusy("quick/db is running already", hint="Wait.")
)
LOST = session_end.Unfollowed(ids=IDS, error=ServerUnavailable("away", hint="It goes on."))


def test_a_session_that_was_refused_hides_no_other(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailed) as caught:
        session_end.finish_all(run_of(place), [ended(Outcome.SUCCESS), REFUSED, LOST])
    assert isinstance(caught.value.error, ChainBusy)
    [done, refused, lost] = msgspec.json.decode(msgspec.json.encode(caught.value.document["sessions"]))
    assert done["session"]["outcome"] == "success"
    assert (refused["workflow_id"], refused["run_id"], refused["error"]["code"]) == ("quick/db", None, "chain-busy")
    assert (lost["session_id"], lost["run_id"], lost["error"]["code"]) == ("s2", "r2", "server-unavailable")
    shown = capsys.readouterr().out
    assert "session s2 (quick/db) could not be started: quick/db is running already" in shown
    assert "session s2 (quick/db) was not followed to a result: away\nhint: It goes on." in shown


def test_a_single_session_that_was_refused_is_its_error_alone(place: Place) -> None:
    with pytest.raises(ChainBusy):
        session_end.finish_all(run_of(place), [REFUSED])
    with pytest.raises(CommandFailed) as caught:
        session_end.finish_all(run_of(place), [LOST])
    assert (caught.value.document["workflow_id"], caught.value.document["run_id"]) == ("quick/db", "r2")


def test_sessions_left_to_themselves_are_named_also_beside_one_that_was_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    session_end.finish_all(run_of(place), [IDS])
    assert capsys.readouterr().out == "session s2, workflow quick/db\n"
    with pytest.raises(CommandFailed) as caught:
        session_end.finish_all(run_of(place), [IDS, REFUSED])
    assert [one["run_id"] for one in msgspec.to_builtins(caught.value.document["sessions"])] == ["r2", None]
    assert "session s2, workflow quick/db\n" in capsys.readouterr().out
