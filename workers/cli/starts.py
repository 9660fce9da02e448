"""How each session is started: workflow, id, queue, summary and search attributes, for commands and schedules alike."""

from collections.abc import Sequence
from typing import Any

import msgspec
from temporalio.common import TypedSearchAttributes

from holdfast.model.placement import ProxyLimit, Resources
from holdfast.model.session import SessionKind
from workers.config import ProxySettings, RepositorySettings
from workflows import queues
from workflows.backup_job import BackupJob
from workflows.messages import BackupRequest, RestoreRequest, SweepRequest, VerifyRequest
from workflows.report import summary
from workflows.restore import RestoreMachine
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


def backup_start(request: BackupRequest, *, is_ad_hoc: bool = False) -> Start:
    """Return how a backup session is started; Temporal refuses a second one of the job while it runs.

    Any number of backups that belong to no job may run: each machine is protected by one session only in any case.
    """
    who = ", ".join(request.machines) if request.machines else f"all machines of {request.provider}"
    workflow_id = queues.backup_id(request.job)
    return Start(
        workflow=BackupJob.run,
        request=request,
        workflow_id=f"{workflow_id}/{request.session_id}" if is_ad_hoc else workflow_id,
        summary=summary(f"{request.job}: {who} -> {request.repository}"),
        search_attributes=started(Subject(kind=SessionKind.BACKUP, job=request.job, repository=request.repository)),
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
