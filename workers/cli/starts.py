"""How each session is started: workflow, id, queue, summary and search attributes, for commands and schedules alike."""

from collections.abc import Sequence
from typing import Any

import msgspec
from temporalio.common import TypedSearchAttributes

from holdfast.model.ids import CredentialName, JobName, RepositoryName, SessionId
from holdfast.model.placement import ProxyLimit, Resources
from holdfast.model.retention import RetentionOptions
from holdfast.model.session import SessionKind
from holdfast.planning.archives import kept_words
from workers.config import ProxySettings, Settings
from workers.repository_settings import RepositorySettings
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.chain_messages import MoveRequest
from workflows.health import CheckHealth
from workflows.machine_upkeep import MachineUpkeep
from workflows.messages import (
    BackupRequest,
    HealthRequest,
    HealthTask,
    MachineUpkeepRequest,
    RestoreRequest,
    RetentionRequest,
    SweepRequest,
    UpkeepOptions,
    VerifyRequest,
)
from workflows.moving import MoveChains
from workflows.report import summary
from workflows.restore import RestoreMachine
from workflows.retention import RetainPoints
from workflows.search_attributes import Subject, started
from workflows.sweep import SweepProvider
from workflows.verify import VerifyRepository


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What `Client.start_workflow` or a schedule's action needs."""

    workflow: Any
    """The ``run`` method of the workflow."""
    request: Any
    workflow_id: str
    summary: str
    """One line for people who look at Temporal's web pages."""
    search_attributes: TypedSearchAttributes
    task_queue: str = queues.CONTROL


def resources_of(repository: RepositorySettings, proxies: Sequence[ProxySettings]) -> Resources:
    """Return what a session may use, as the configuration says."""
    return Resources(
        proxies=tuple(ProxyLimit(name=proxy.name, tasks=proxy.tasks) for proxy in proxies),
        repository_tasks=repository.tasks,
        preferred=repository.proxies,
    )


def credentials_of(settings: Settings, repository: RepositoryName) -> tuple[CredentialName, ...]:
    """Return the credentials of all jobs that write to a repository, each once."""
    named = (job.credential for job in settings.jobs if job.repository == repository and job.credential is not None)
    return tuple(dict.fromkeys(named))


def backup_start(request: BackupRequest, *, is_ad_hoc: bool = False) -> Start:
    """Return how a backup session is started; Temporal refuses a second one of the job while it runs.

    Any number of backups that belong to no job may run: each machine is protected by one session only in any case.
    """
    who = ", ".join(request.machines) if request.machines else f"all machines of {request.provider}"
    workflow_id = queues.backup_id(request.job)
    archive = request.options.archive
    until = "" if archive is None else f", {kept_words(archive)}"
    subject = Subject(kind=request.options.kind, job=request.job, repository=request.repository)
    return Start(
        workflow=BackupJob.run,
        request=request,
        workflow_id=f"{workflow_id}/{request.session_id}" if is_ad_hoc else workflow_id,
        summary=summary(f"{request.job}: {who} -> {request.repository}{until}"),
        search_attributes=started(subject),
    )


def quick_start(request: BackupRequest) -> Start:
    """Return how a quick backup into a job is started: one at a time, and in turn with the sessions of the job."""
    start = backup_start(msgspec.structs.replace(request, after=(queues.backup_id(request.job),)))
    return msgspec.structs.replace(
        start,
        workflow_id=queues.quick_id(request.job),
        summary=summary(f"{request.job}: quick backup of {', '.join(request.machines)} -> {request.repository}"),
    )


def restore_start(request: RestoreRequest) -> Start:
    """Return how a restore is started; any number may run."""
    what = request.machine or f"point {request.point}"
    place = request.new_name or request.into or "the original"
    kind = " (quick rollback)" if request.is_quick else ""
    subject = Subject(kind=SessionKind.RESTORE, job=request.job, machine=request.machine, repository=request.repository)
    return Start(
        workflow=RestoreMachine.run,
        request=request,
        workflow_id=queues.restore_id(request.session_id),
        summary=summary(f"{request.repository}: {what} -> {place}{kind}"),
        search_attributes=started(subject),
    )


def verify_start(request: VerifyRequest) -> Start:
    """Return how a verification is started; one at a time for each repository."""
    what = request.machine or request.point or "all points"
    subject = Subject(kind=SessionKind.VERIFY, job=request.job, machine=request.machine, repository=request.repository)
    return Start(
        workflow=VerifyRepository.run,
        request=request,
        workflow_id=queues.verify_id(request.repository),
        summary=summary(f"{request.repository}: {what}"),
        search_attributes=started(subject),
    )


def upkeep_start(request: MachineUpkeepRequest) -> Start:
    """Return how the upkeep of one machine's chains is started by hand; one at a time for each machine.

    Of a chain of which something was removed the machine may be unknown; then its folder stands for it.
    """
    what = "upkeep of its chains" if request.by_hand is None else request.by_hand.value
    subject = Subject(
        kind=SessionKind.RETENTION, job=request.job, machine=request.machine_name, repository=request.repository
    )
    return Start(
        workflow=MachineUpkeep.run,
        request=request,
        workflow_id=queues.machine_upkeep_id(request.repository, request.machine_id, request.machine_name)
        if request.machine_id
        else queues.folder_upkeep_id(request.repository, request.machine_name),
        summary=summary(f"{request.machine_name}: {what} in {request.repository}"),
        search_attributes=started(subject),
    )


def health_start(request: HealthRequest) -> Start:
    """Return how a health check, a scrub or a repair is started; one at a time for each repository."""
    subject = Subject(kind=SessionKind.HEALTH, job=request.job, machine=request.machine, repository=request.repository)
    return Start(
        workflow=CheckHealth.run,
        request=request,
        workflow_id=queues.health_id(request.repository),
        summary=summary(f"{request.repository}: {_HEALTH_WORDS[request.task]}"),
        search_attributes=started(subject),
    )


def chains_start(request: MoveRequest) -> Start:
    """Return how chains of a machine are mapped, renamed or moved; one at a time for each machine."""
    where = request.to or request.new_name or request.new_id
    subject = Subject(
        kind=SessionKind.CHAINS, job=request.job, machine=request.machine_name, repository=request.repository
    )
    return Start(
        workflow=MoveChains.run,
        request=request,
        workflow_id=queues.chains_id(request.repository, request.folder),
        summary=summary(f"{request.repository}: {request.task} {request.machine_name} -> {where}"),
        search_attributes=started(subject),
    )


_HEALTH_WORDS = {
    HealthTask.CHECK: "the newest points are read back",
    HealthTask.SCRUB: "the oldest stored bytes are read again",
    HealthTask.REPAIR: "what is damaged is repaired",
}


def sweep_start(request: SweepRequest) -> Start:
    """Return how a sweep is started; one at a time for each provider."""
    what = "what dead sessions left would be" if request.is_dry_run else "what dead sessions left is"
    return Start(
        workflow=SweepProvider.run,
        request=request,
        workflow_id=queues.sweep_id(request.provider),
        summary=summary(f"{request.provider}: {what} removed"),
        search_attributes=started(Subject(kind=SessionKind.SWEEP, job=request.job)),
    )


def archives_request_of(repository: RepositoryName, session_id: SessionId) -> RetentionRequest:
    """Return the request of a session that removes the archives of a repository that have expired."""
    return RetentionRequest(
        job=JobName("archives"),
        repository=repository,
        upkeep=UpkeepOptions(retention=RetentionOptions(only_archives=True)),
        session_id=session_id,
    )


def retention_start(request: RetentionRequest) -> Start:
    """Return how a retention session is started; one at a time for each job, and for the archives of a repository."""
    count = len(request.machines)
    what = f"{count} machine{'' if count == 1 else 's'} as shown" if count else "all machines"
    rules = request.upkeep.retention
    is_of_archives = rules is not None and rules.only_archives
    return Start(
        workflow=RetainPoints.run,
        request=request,
        workflow_id=queues.archives_id(request.repository) if is_of_archives else queues.retention_id(request.job),
        summary=summary(f"{request.job}: retention of {what} in {request.repository}"),
        search_attributes=started(Subject(kind=SessionKind.RETENTION, job=request.job, repository=request.repository)),
    )
