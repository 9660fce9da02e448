"""A session is started under the id of what it protects, and can be searched for."""

import msgspec

from holdfast.model.ids import JobName, ProviderName, RepositoryName, SessionId
from workers.cli.starts import backup_start, restore_start, sweep_start, verify_start
from workflows.backup_job import BackupJob
from workflows.messages import BackupRequest, RestoreRequest, SweepRequest, VerifyRequest
from workflows.restore import RestoreMachine
from workflows.search_attributes import JOB, KIND, MACHINE, REPOSITORY
from workflows.sweep import SweepProvider
from workflows.verify import VerifyRepository

BACKUP = BackupRequest(
    job=JobName("nightly"),
    provider=ProviderName("lab"),
    proxy="p1",
    repository=RepositoryName("main"),
    session_id=SessionId("s1"),
)


def test_a_job_runs_once_at_a_time_and_the_rest_as_often_as_wanted() -> None:
    start = backup_start(BACKUP)
    assert (start.workflow, start.workflow_id, start.task_queue) == (BackupJob.run, "backup/nightly", "control")
    assert start.summary == "nightly: all machines of lab -> main"
    assert start.search_attributes[JOB] == "nightly"
    assert backup_start(BACKUP, is_ad_hoc=True).workflow_id == "backup/nightly/s1"


def test_a_restore_names_point_and_place() -> None:
    request = RestoreRequest(
        session_id=SessionId("s1"),
        repository=RepositoryName("main"),
        provider=ProviderName("lab"),
        proxy="p1",
        machine="web",
        new_name="copy",
    )
    start = restore_start(request)
    assert (start.workflow, start.workflow_id) == (RestoreMachine.run, "restore/s1")
    assert start.summary == "main: web -> copy"
    assert start.search_attributes[MACHINE] == "web"
    quick = msgspec.structs.replace(request, new_name=None, is_quick=True)
    assert restore_start(quick).summary == "main: web -> the original (quick rollback)"


def test_a_verification_is_one_at_a_time_for_each_repository() -> None:
    start = verify_start(VerifyRequest(session_id=SessionId("s1"), repository=RepositoryName("main")))
    assert (start.workflow, start.workflow_id) == (VerifyRepository.run, "verify/main")
    assert start.search_attributes[KIND] == "verify"
    assert start.search_attributes[REPOSITORY] == "main"


def test_a_sweep_is_one_at_a_time_for_each_provider() -> None:
    start = sweep_start(SweepRequest(provider=ProviderName("vc"), proxy="p1"))
    assert (start.workflow, start.workflow_id) == (SweepProvider.run, "sweep/vc")
    assert start.summary == "vc: what dead sessions left is removed"
    assert start.search_attributes[KIND] == "sweep"
