"""A session is started once and followed, or left to itself."""

import asyncio
import re
import threading
from typing import Any

import msgspec
import pytest
from temporalio.service import RPCError

from holdfast.errors import ChainBusy, OperationCancelled, PassphraseWrong, ServerUnavailable
from holdfast.model.ids import JobName, ProviderName, RepositoryName
from tests.workers.cli.place import Place
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Flags, Invocation, error_document
from workers.cli.starting import NewSession, credential_for, hinting_at_credential, new_session_id, run_sessions
from workers.cli.starts import backup_start, health_start, verify_start
from workers.devserver import DevServerAddress
from workers.temporal import connect
from workflows.messages import BackupRequest, HealthRequest, HealthTask, VerifyRequest


def test_ids_sort_by_time_and_differ(place: Place) -> None:
    run = Invocation(Flags(config=place.config))
    first, second = new_session_id(run), new_session_id(run)
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", first)
    assert first != second


@pytest.mark.parametrize(
    "jobs, named, found",
    [
        ("", None, None),
        ('credential = "night"\n', None, "night"),
        ('credential = "night"\n', "", None),
        ('credential = "night"\n', "other", "other"),
        ('[[jobs]]\nname = "b"\nprovider = "lab"\nrepository = "main"\nproxy = "p1"\ncredential = "x"\n', None, None),
    ],
)
def test_the_credential_is_the_one_named_or_shared_by_all_jobs(
    place: Place, jobs: str, named: str | None, found: str | None
) -> None:
    place.config.write_text(place.config.read_text() + jobs)
    assert credential_for(Invocation(Flags(config=place.config)), "main", named) == found


@pytest.mark.parametrize(
    "is_second, named, names", [(True, None, "alpha, night"), (True, "night", ""), (False, None, "")]
)
def test_a_wrong_passphrase_hints_at_the_option_where_the_jobs_have_different_ones(
    place: Place, is_second: bool, named: str | None, names: str
) -> None:
    if is_second:
        place.add_second_credential("alpha")
    run = Invocation(Flags(config=place.config))
    error = PassphraseWrong("session s1 failed: it does not open")
    with (
        pytest.raises(CommandFailed) as caught,
        hinting_at_credential(run, RepositoryName("main"), named),
    ):
        raise CommandFailed(error, {"session": "s1"} | error_document(error))
    shown = caught.value.document["error"]
    assert isinstance(shown, dict)
    assert shown["hint"] == caught.value.error.hint
    assert caught.value.document["session"] == "s1"
    assert ("--credential NAME" in caught.value.error.hint) is bool(names)
    assert names in caught.value.error.hint


def test_without_a_server_nothing_is_started(place: Place) -> None:
    assert (
        place.json("backup", "nightly", status=ServerUnavailable.exit_status)["error"]["code"] == "server-unavailable"
    )


@pytest.mark.temporal
def test_the_same_job_is_not_started_twice(
    dev_server: DevServerAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = Place(tmp_path_factory.mktemp("twice"), dev_server.grpc)
    place.config.write_text(place.config.read_text().replace("nightly", "twice"))
    ids = place.json("backup", "twice", "--detach")
    assert set(ids) == {"session_id", "workflow_id", "run_id"}
    error = place.json("backup", "twice", status=ChainBusy.exit_status)["error"]
    assert "holdfast watch backup/twice" in error["hint"]


@pytest.mark.temporal
def test_several_sessions_are_started_before_one_is_followed_and_shown_together(
    lab: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.json("backup", "nightly")
    capsys.readouterr()
    run = Invocation(Flags(config=lab.config, json=True))
    first, second = new_session_id(run), new_session_id(run)
    check = HealthRequest(session_id=first, repository=RepositoryName("main"), task=HealthTask.CHECK)
    verify = VerifyRequest(session_id=second, repository=RepositoryName("main"), point="nowhere")
    news = [
        NewSession(session_id=first, start=health_start(check), if_stopped="it ends"),
        NewSession(session_id=second, start=verify_start(verify), if_stopped="it ends"),
    ]
    with pytest.raises(CommandFailed) as caught:
        run_sessions(run, news, detach=False, patience_s=60)
    shown = caught.value.document["sessions"]
    assert isinstance(shown, list)
    assert [one["session"].outcome.value for one in shown] == ["success", "failed"]
    run_sessions(run, news, detach=True, patience_s=60)
    detached = msgspec.json.decode(capsys.readouterr().out)["sessions"]
    assert [one["session_id"] for one in detached] == [first, second]


def waiting(run: Invocation, job: str) -> NewSession:
    """A session that finds no proxy and therefore waits."""
    request = BackupRequest(
        job=JobName(job),
        provider=ProviderName("lab"),
        proxy=f"nobody-{job}",
        repository=RepositoryName("main"),
        session_id=new_session_id(run),
    )
    return NewSession(session_id=request.session_id, start=backup_start(request), if_stopped="it ends")


def check(run: Invocation) -> NewSession:
    request = HealthRequest(session_id=new_session_id(run), repository=RepositoryName("main"), task=HealthTask.CHECK)
    return NewSession(session_id=request.session_id, start=health_start(request), if_stopped="it ends")


def terminate(place: Place, workflow_id: str, *, is_late: bool = False) -> None:
    async def terminated() -> None:
        client = await connect(place.settings.temporal)
        async with asyncio.timeout(60):
            while True:
                try:
                    await client.get_workflow_handle(workflow_id).terminate("by a test")
                except RPCError:  # not started yet
                    assert is_late
                    await asyncio.sleep(0.1)
                else:
                    return

    asyncio.run(terminated())


@pytest.mark.temporal
def test_a_session_that_is_refused_keeps_no_other_from_being_started_and_followed(lab: Place) -> None:
    run = Invocation(Flags(config=lab.config, json=True))
    stuck = waiting(run, "stuck")
    run_sessions(run, [stuck], detach=True, patience_s=60)
    try:
        with pytest.raises(CommandFailed) as caught:
            run_sessions(run, [stuck, check(run)], detach=False, patience_s=60)
        refused, done = documents(caught.value)
        assert (refused["session_id"], refused["run_id"]) == (stuck.session_id, None)
        assert (refused["error"]["code"], done["session"]["outcome"]) == ("chain-busy", "success")
        with pytest.raises(CommandFailed) as caught:
            run_sessions(run, [stuck, check(run)], detach=True, patience_s=60)
        refused, done = documents(caught.value)
        assert (refused["run_id"], done["run_id"] is None) == (None, False)
    finally:
        terminate(lab, stuck.start.workflow_id)


@pytest.mark.temporal
def test_a_session_that_breaks_down_keeps_no_other_from_being_followed(lab: Place) -> None:
    run = Invocation(Flags(config=lab.config, json=True))
    broken = waiting(run, "broken")
    thread = threading.Thread(target=terminate, args=(lab, broken.start.workflow_id), kwargs={"is_late": True})
    thread.start()
    with pytest.raises(CommandFailed) as caught:
        run_sessions(run, [broken, check(run)], detach=False, patience_s=60)
    thread.join(60)
    lost, done = documents(caught.value)
    assert (lost["session_id"], lost["workflow_id"]) == (broken.session_id, "backup/broken")
    assert (lost["error"]["code"], done["session"]["outcome"]) == ("cancelled", "success")
    assert isinstance(caught.value.error, OperationCancelled)


def documents(failed: CommandFailed) -> Any:
    return msgspec.to_builtins(failed.document["sessions"])
