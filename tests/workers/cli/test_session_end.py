"""How a session ended decides the exit status and what stands beside it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from holdfast.model.ids import ChainId, DiskKey, FileId, JobName, MachineId, PointId, RepositoryName, SessionId
from holdfast.model.machine import Machine, PowerState
from holdfast.model.points import Damage, PointSummary, VerifyReport
from holdfast.model.session import Figures, Outcome, Problem, Session, SessionKind, Task
from holdfast.planning.sweep import Decision, Kind
from tests.workers.cli.place import Place
from workers.cli import session_end
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Flags, Invocation
from workflows.messages import SessionResult, SweepReport

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
