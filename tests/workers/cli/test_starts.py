"""A session is started under the id of what it protects, and can be searched for."""

from datetime import UTC, datetime

import msgspec

from holdfast.model.archives import Archive
from holdfast.model.ids import JobName, MachineId, ProviderName, RepositoryName, SessionId
from workers.cli.starts import (
    archives_request_of,
    backup_start,
    restore_start,
    retention_start,
    sweep_start,
    verify_start,
)
from workflows.backup_job import BackupJob
from workflows.messages import (
    BackupOptions,
    BackupRequest,
    RestoreRequest,
    RetentionRequest,
    ShownPlan,
    SweepRequest,
    UpkeepOptions,
    VerifyRequest,
)
from workflows.restore import RestoreMachine
from workflows.retention import RetainPoints
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


def test_archives_say_what_they_are() -> None:
    wish = BackupOptions(archive=Archive(expires=datetime(2027, 7, 1, tzinfo=UTC)))
    request = msgspec.structs.replace(BACKUP, job=JobName("archive"), machines=("web",), options=wish)
    start = backup_start(request, is_ad_hoc=True)
    assert start.workflow_id == "backup/archive/s1"
    assert start.summary == "archive: web -> main, kept until 2027-07-01T00:00+00:00"
    assert start.search_attributes[KIND] == "archive"
    expiry = retention_start(archives_request_of(RepositoryName("main"), SessionId("s1")))
    assert (expiry.workflow, expiry.workflow_id) == (RetainPoints.run, "archives/main")


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


def test_a_retention_is_one_at_a_time_for_each_job_and_says_whether_it_was_shown() -> None:
    request = RetentionRequest(job=JobName("nightly"), repository=RepositoryName("main"), upkeep=UpkeepOptions())
    start = retention_start(request)
    assert (start.workflow, start.workflow_id) == (RetainPoints.run, "retention/nightly")
    assert start.summary == "nightly: retention of all machines in main"
    assert start.search_attributes[KIND] == "retention"
    shown = ShownPlan(machine_id=MachineId("m"), machine_name="web", digest="d")
    start = retention_start(msgspec.structs.replace(request, machines=(shown,)))
    assert start.summary == "nightly: retention of 1 machine as shown in main"
