"""``holdfast backup``: one session of a job, or of machines named on the spot."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from holdfast.errors import RequestInvalid
from holdfast.guest.masks import parse_masks
from holdfast.model.compression import Compression
from holdfast.model.ids import CredentialName, JobName, RepositoryName, SessionId
from holdfast.model.machine import Quiesce
from workers.cli.commands import PROTECT, command
from workers.cli.invocation import Invocation
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_session,
)
from workers.cli.starts import backup_start, credentials_of, resources_of
from workers.config import Settings
from workers.job_settings import AD_HOC, JobSettings
from workers.method_settings import fulls_of, method_of, owner_of
from workers.retention_settings import retention_of
from workflows import queues
from workflows.messages import BackupOptions, BackupRequest, RetentionRequest, UpkeepOptions

IF_STOPPED = "its snapshots are removed, and so is what it has not finished; finished restore points stay"
_OVERRIDE = "Instead of what the job says"

JobArgument = Annotated[str | None, typer.Argument(metavar="JOB", help="Job of the configuration.")]
MachineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--machine",
        "-m",
        metavar="NAME",
        help="Id, name, or group such as folder:/prod; may be repeated.",
        rich_help_panel=_OVERRIDE,
    ),
]
FullOption = Annotated[bool, typer.Option("--full", help="Start a new chain with a full.")]
DistrustOption = Annotated[
    bool, typer.Option("--distrust-changes", help="Read everything and compare, whatever is said to have changed.")
]
ExcludeFileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-file",
        metavar="MASK",
        help="Leave files and folders of guests out, besides those of the job; may be repeated.",
    ),
]
QuiesceOption = Annotated[
    Quiesce | None, typer.Option("--quiesce", help="Whether guests come to rest.", rich_help_panel=_OVERRIDE)
]
VerifyOption = Annotated[
    bool | None, typer.Option("--verify/--no-verify", help="Read the new points back.", rich_help_panel=_OVERRIDE)
]
EncryptOption = Annotated[
    str | None,
    typer.Option(
        "--encrypt-with",
        metavar="NAME",
        help='Credential with the passphrase, "" for none; default: that of the jobs.',
        rich_help_panel=_OVERRIDE,
    ),
]
CompressionOption = Annotated[
    Compression | None, typer.Option("--compression", help="How strongly.", rich_help_panel=_OVERRIDE)
]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", metavar="NAME", help="Where the machines are.", rich_help_panel=_OVERRIDE)
]
ProxyOption = Annotated[
    str | None, typer.Option("--proxy", metavar="NAME", help="Only this proxy reads.", rich_help_panel=_OVERRIDE)
]
RepositoryOption = Annotated[
    str | None, typer.Option("--repository", "-r", metavar="NAME", help="Where to.", rich_help_panel=_OVERRIDE)
]


class JobPlaces(msgspec.Struct, frozen=True, kw_only=True):
    """What was said about where; None leaves it to the job, or to the only one there is."""

    provider: str | None
    proxy: str | None
    repository: str | None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "backup",
        panel=PROTECT,
        examples=(
            ("backup nightly", "run the job nightly now and follow it"),
            ("backup nightly --machine web --full", "only one machine of it, with a new full"),
            ("backup --machine web --machine db --verify", "machines that no job names, and read them back"),
            ("backup nightly --detach --json", "start it and go on; `holdfast watch nightly` looks at it later"),
        ),
    )(backup)


def backup(
    run: Invocation,
    job: JobArgument = None,
    *,
    machine: MachineOption = None,
    full: FullOption = False,
    distrust_changes: DistrustOption = False,
    exclude_file: ExcludeFileOption = None,
    quiesce: QuiesceOption = None,
    verify: VerifyOption = None,
    encrypt_with: EncryptOption = None,
    compression: CompressionOption = None,
    provider: ProviderOption = None,
    proxy: ProxyOption = None,
    repository: RepositoryOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Back machines up: run a job of the configuration, or name machines.

    The session runs on the workers and survives the end of this command; an interrupt asks it to stop.
    """
    places = JobPlaces(provider=provider, proxy=proxy, repository=repository)
    settings = _job(run, job, tuple(machine or ()), places, encrypt_with)
    options = BackupOptions(
        compression=compression if compression is not None else settings.compression,
        unit_size=settings.unit_size,
        full=full,
        fulls=fulls_of(settings),
        distrust_changes=distrust_changes,
        quiesce=quiesce if quiesce is not None else settings.quiesce,
        sample_mib=settings.sample_mib,
        exclude_swap=settings.exclude_swap,
        exclude_deleted=settings.exclude_deleted,
        exclude_files=masks_of(settings, exclude_file or []),
        verify=verify if verify is not None else settings.verify is True,
        verify_increments=verify is None and settings.verify == "increments",
        on_broken_chain=settings.on_broken_chain,
        machines_at_once=settings.machines_at_once,
        excluded_disks=settings.excluded_disks,
        credential=settings.credential,
        owner=owner_of(settings),
    )
    session_id = new_session_id(run)
    start = backup_start(request_of(run.settings, settings, session_id, options), is_ad_hoc=job is None)
    new = NewSession(session_id=session_id, start=start, if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def _turns(job: JobName) -> tuple[str, ...]:
    """Return what a session of a job waits for: a quick backup into it, and one that a schedule or a person started."""
    return queues.quick_id(job), queues.backup_id(job)


def request_of(
    known: Settings, settings: JobSettings, session_id: SessionId, options: BackupOptions | None = None
) -> BackupRequest:
    """Return the request of a session of a job; without ``options`` those of the job."""
    proxies = known.proxies_of(settings)
    return BackupRequest(
        job=settings.name,
        provider=settings.provider,
        proxy=proxies[0].name,
        resources=resources_of(known.repository(settings.repository), proxies),
        repository=settings.repository,
        machines=settings.machines,
        excluded=settings.excluded,
        options=options if options is not None else options_of(settings),
        session_id=session_id,
        upkeep=upkeep_of(settings),
        after=_turns(settings.name) if settings.name in {job.name for job in known.jobs} else (),
    )


def options_of(settings: JobSettings) -> BackupOptions:
    """Return the options of a job."""
    return BackupOptions(
        compression=settings.compression,
        unit_size=settings.unit_size,
        fulls=fulls_of(settings),
        quiesce=settings.quiesce,
        sample_mib=settings.sample_mib,
        exclude_swap=settings.exclude_swap,
        exclude_deleted=settings.exclude_deleted,
        exclude_files=settings.exclude_files,
        verify=settings.verify is True,
        verify_increments=settings.verify == "increments",
        on_broken_chain=settings.on_broken_chain,
        machines_at_once=settings.machines_at_once,
        excluded_disks=settings.excluded_disks,
        credential=settings.credential,
        owner=owner_of(settings),
    )


def upkeep_of(settings: JobSettings) -> UpkeepOptions | None:
    """Return what a job does with chains once its machines are protected; None: nothing."""
    rules = settings.retention
    wanted = UpkeepOptions(
        retention=None if rules is None else retention_of(rules, settings.timezone, settings.method),
        method=method_of(settings),
    )
    return None if wanted == UpkeepOptions() else msgspec.structs.replace(wanted, owner=owner_of(settings))


def retention_request_of(settings: JobSettings, session_id: SessionId) -> RetentionRequest:
    """Return the request of a retention session of a job. Raises `RequestInvalid` for one that keeps everything."""
    upkeep = upkeep_of(settings)
    if upkeep is None or upkeep.retention is None:
        hint = "Add a `[jobs.retention]` table to it; docs/retention.md has the rules."
        raise RequestInvalid(f"job {settings.name} has no retention: all its points stay", hint=hint)
    return RetentionRequest(
        job=settings.name,
        repository=settings.repository,
        upkeep=UpkeepOptions(retention=upkeep.retention, owner=upkeep.owner),
        credential=settings.credential,
        session_id=session_id,
    )


def masks_of(settings: JobSettings, more: Sequence[str]) -> tuple[str, ...]:
    """Return the masks of a job and more, each once. Raises `RequestInvalid`."""
    return tuple(mask.text for mask in parse_masks((*settings.exclude_files, *more)))


def ad_hoc_job(
    run: Invocation, name: JobName, machines: tuple[str, ...], places: JobPlaces, encrypt_with: str | None
) -> JobSettings:
    """Return what stands for a job in a session that belongs to none.

    Raises `RequestInvalid` when nothing says how to encrypt where jobs do.
    """
    repository = run.repository_settings(places.repository).name
    return JobSettings(
        name=name,
        provider=run.provider_settings(places.provider).name,
        repository=repository,
        credential=_credential(run, repository, encrypt_with),
        proxies=tuple(proxy.name for proxy in run.proxies(places.proxy)),
        machines=machines,
    )


def _credential(run: Invocation, repository: RepositoryName, encrypt_with: str | None) -> CredentialName | None:
    """Return what a session without a job encrypts with. Raises `RequestInvalid` when that has to be said.

    A plain full of a machine that a job encrypts would end the job's chain and leave readable data in its repository.
    """
    found = credential_for(run, repository, encrypt_with)
    used = credentials_of(run.settings, repository)
    if found is None and encrypt_with is None and used:
        told = " or ".join(f"`--encrypt-with {name}`" for name in used)
        hint = f'Choose: {told}, or `--encrypt-with ""` for data that anybody can read.'
        raise RequestInvalid(f"not all jobs of repository {repository} encrypt with the same credential", hint=hint)
    return found


def _job(
    run: Invocation, job: str | None, machines: tuple[str, ...], places: JobPlaces, encrypt_with: str | None
) -> JobSettings:
    """Return the job as the command line wants it."""
    known = run.settings
    if job is None and not machines:
        names = ", ".join(entry.name for entry in known.jobs) or "none"
        raise RequestInvalid("neither a job nor a machine is named", hint=f"Jobs of the configuration: {names}.")
    if job is None:
        return ad_hoc_job(run, AD_HOC, machines, places, encrypt_with)
    settings = known.job(job)
    return msgspec.structs.replace(
        settings,
        provider=known.provider(places.provider or settings.provider).name,
        repository=known.repository(places.repository or settings.repository).name,
        proxy=known.proxy(places.proxy).name if places.proxy else settings.proxy,
        proxies=() if places.proxy else settings.proxies,
        machines=machines or settings.machines,
        credential=settings.credential if encrypt_with is None else CredentialName(encrypt_with) or None,
    )
