"""``holdfast archive``: a full of machines that belongs to no job, and what becomes of those that are there."""

from collections.abc import Sequence
from typing import Annotated

import typer

from activities.contracts.retention import JobMachine
from holdfast.errors import HoldfastError, RequestInvalid
from holdfast.model.archives import Archive, is_archive
from holdfast.model.compression import Compression
from holdfast.model.ids import CredentialName, MachineId, SessionId
from holdfast.model.machine import Quiesce
from holdfast.model.retention import RetentionOptions
from holdfast.planning.archives import kept_words, parse_expiry
from holdfast.planning.grace import PurgeRule, has_had_grace
from holdfast.storage.retention.archiving import archive_credential, keep_archive, look_at_archives, plan_seen_archives
from holdfast.storage.retention.graveyard import graves_of
from workers.cli import backup
from workers.cli.backup import IF_STOPPED, EncryptOption, JobPlaces, ProviderOption, ProxyOption
from workers.cli.chain_choice import RepositoryOption
from workers.cli.commands import PROTECT, command
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.points import CredentialOption
from workers.cli.reading import find_listed, read_points
from workers.cli.retention_plans import JobPlan, PlannedMachine, document_of, parts_of
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    new_session_id,
    run_session,
)
from workers.cli.starts import archives_request_of, backup_start, retention_start
from workers.job_settings import ARCHIVE
from workers.repository_settings import RepositorySettings
from workflows.messages import BackupOptions

IF_EXPIRY_STOPPED = "archives that are not removed yet stay for the next run"

MachinesArgument = Annotated[
    list[str], typer.Argument(metavar="MACHINE...", help="Ids, names, or groups such as folder:/prod.")
]
ExpiresOption = Annotated[
    str, typer.Option("--expires", metavar="WHEN", help="`30d`, `8w`, the last day `2027-06-30`, or `never`.")
]
CompressionOption = Annotated[Compression, typer.Option("--compression", help="How strongly.")]
QuiesceOption = Annotated[Quiesce, typer.Option("--quiesce", help="Whether guests come to rest.")]
VerifyOption = Annotated[bool, typer.Option("--verify/--no-verify", help="Read the archives back.")]


def register(app: typer.Typer) -> None:
    """Add the command that makes archives."""
    command(
        app,
        "archive",
        panel=PROTECT,
        examples=(
            ("archive web --expires 30d", "a full of its own, kept for thirty days whatever the jobs do"),
            ("archive web db --encrypt-with vault --verify", "two machines, encrypted and read back, kept for ever"),
        ),
    )(archive)


def register_keeping(members: typer.Typer) -> None:
    """Add the commands that look after archives."""
    command(
        members,
        "archives",
        examples=(("retention archives", "every archive, until when it is kept, and what would be removed now"),),
    )(archives)
    command(
        members, "expire", examples=(("retention expire", "show the plan, and remove the archives that have expired"),)
    )(expire)
    command(
        members,
        "keep",
        examples=(
            ("retention keep 3f9a --expires never", "an archive stays for ever"),
            ("retention keep 3f9a --expires 2027-06-30", "or until the end of that day"),
        ),
    )(keep)


def archive(
    run: Invocation,
    machine: MachinesArgument,
    *,
    expires: ExpiresOption = "never",
    repository: backup.RepositoryOption = None,
    compression: CompressionOption = Compression.ZSTD_1,
    encrypt_with: EncryptOption = None,
    quiesce: QuiesceOption = Quiesce.NEVER,
    verify: VerifyOption = False,
    provider: ProviderOption = None,
    proxy: ProxyOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Make an archive: a full of each machine that stands beside the points of jobs and is kept by its own time alone.

    No job continues it, and no job's retention touches it. Restore it as any other point.
    """
    expiry = parse_expiry(expires, run.clock.now())
    places = JobPlaces(provider=provider, proxy=proxy, repository=repository)
    job = backup.ad_hoc_job(run, ARCHIVE, tuple(machine), places, encrypt_with)
    wish = Archive(expires=expiry, credential=job.credential)
    options = BackupOptions(
        compression=compression, full=True, quiesce=quiesce, verify=verify, credential=job.credential, archive=wish
    )
    _warn_if_nobody_removes(run, run.settings.repository(job.repository), wish)
    session_id = new_session_id(run)
    start = backup_start(backup.request_of(run.settings, job, session_id, options), is_ad_hoc=True)
    new = NewSession(session_id=session_id, start=start, if_stopped=IF_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def archives(run: Invocation, *, repository: RepositoryOption = None) -> None:
    """List the archives of a repository: until when each is kept, and which would be removed now.

    The files of the repository are read directly; nothing is changed.
    """
    found, _ = _plan(run, run.repository_settings(repository), SessionId(""))
    run.show(document_of(found), *parts_of(found))


def expire(
    run: Invocation,
    *,
    repository: RepositoryOption = None,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Remove the archives that have expired: the plan is shown, and what is done is that plan or nothing.

    What is removed can be taken back for seven days with `retention undelete`.
    """
    settings = run.repository_settings(repository)
    session_id = new_session_id(run)
    found, errors = _plan(run, settings, session_id)
    if not found.machines and (errors or not _has_what_is_to_be_purged(run, settings)):
        _end_without_plan(run, found, errors)
        return
    if run.is_talkative:
        run.show(None, *parts_of(found))
    start = retention_start(found.as_shown(has_consent=False))
    new = NewSession(session_id=session_id, start=start, if_stopped=IF_EXPIRY_STOPPED)
    run_session(run, new, detach=detach, patience_s=patience)


def keep(
    run: Invocation,
    point: Annotated[str, typer.Argument(metavar="POINT", help="First digits of the id of an archive's point.")],
    *,
    expires: ExpiresOption,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Say until when an archive is kept from now on. A lock holds whatever is said here."""
    settings = run.repository_settings(repository)
    until = parse_expiry(expires, run.clock.now())
    if point == "latest":
        raise RequestInvalid("latest names no archive", hint="Give the first digits of its id, see `holdfast points`.")
    listed, unreadable = read_points(run, settings, credential)
    found = find_listed(listed, point, unreadable)
    opened = run.repository(settings)
    named = archive_credential(opened.files, opened.chain_folder(found.chain))
    passphrase = run.settings.credentials.passphrase(CredentialName(credential) if credential else named)
    keep_archive(opened, found.chain, passphrase, until)
    words = kept_words(Archive(expires=until))
    run.show({"point": found.point.id, "chain": found.chain, "expires": until}, f"archive {found.reference} is {words}")


def _plan(
    run: Invocation, settings: RepositorySettings, session_id: SessionId
) -> tuple[JobPlan, tuple[HoldfastError, ...]]:
    """Return what becomes of the archives that can be looked at, and what kept others from it."""
    repository = run.repository(settings)
    now = run.clock.now()
    planned = []
    errors: tuple[HoldfastError, ...] = ()
    for folder in dict.fromkeys(found.parent for found in repository.archives()):
        seen = look_at_archives(repository, folder, run.settings.credentials.passphrase)
        errors += seen.errors
        for reason in seen.left_out:
            run.warn(reason)
        if seen.chains:
            newest = seen.chains[-1]
            machine = JobMachine(
                machine_id=MachineId(newest.machine_id),
                machine_name=newest.machine_name,
                last_tried=newest.files[-1].created.date(),
                is_gone=False,
            )
            planned.append(PlannedMachine(machine=machine, plan=plan_seen_archives(seen, now)))
    return JobPlan(request=archives_request_of(settings.name, session_id), machines=tuple(planned)), errors


def _end_without_plan(run: Invocation, found: JobPlan, errors: Sequence[HoldfastError]) -> None:
    """Show that nothing is to be done. Raises `CommandFailed` when that is only because archives were left out."""
    if not errors:
        run.show(document_of(found), *parts_of(found))
        return
    if not run.flags.json:
        run.show(None, *parts_of(found))
    raise CommandFailed(errors[0], document_of(found) | error_document(errors[0]))


def _has_what_is_to_be_purged(run: Invocation, settings: RepositorySettings) -> bool:
    """Return whether archives that were removed have had their grace period: only a session deletes them for good."""
    rule = PurgeRule(now=run.clock.now(), grace_days=RetentionOptions().grace_days)
    graves = graves_of(run.repository(settings))
    return any(is_archive(grave.chain) and has_had_grace(grave.fact, rule) for grave in graves)


def _warn_if_nobody_removes(run: Invocation, settings: RepositorySettings, archive: Archive) -> None:
    if archive.expires is not None and settings.archives is None:
        run.say(
            f"repository {settings.name} has no time for `archives` in the configuration: "
            "expired ones stay until `holdfast retention expire`"
        )
