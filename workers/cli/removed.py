"""What retention removed: listed, taken back or deleted by a worker or here, and locks of points."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from holdfast.errors import CatalogUnavailable, PointNotFound
from holdfast.model.archives import is_archive
from holdfast.model.ids import MachineId, PointId, RepositoryName
from holdfast.model.retention import RetentionOptions
from holdfast.storage.chains.repository import Repository
from holdfast.storage.retention.archiving import archive_credential
from holdfast.storage.retention.graveyard import (
    Grave,
    graves_of,
    lock_points,
    opening_passphrase,
    purge_chain,
    take_back,
)
from holdfast.storage.retention.looking import (
    PlanWish,
    keep_locks,
    look_at_machine,
    note_chain,
    plan_machine,
    see_chain,
)
from workers.cli import wording
from workers.cli.chain_choice import ChosenChain, RepositoryOption
from workers.cli.commands import command
from workers.cli.invocation import Invocation
from workers.cli.job_of_machine import newest_of_a_job
from workers.cli.points import CredentialOption
from workers.cli.reading import find_listed, passphrases_for, read_points
from workers.cli.repository_clock import warn_of_clock
from workers.cli.starting import (
    PATIENCE_DEFAULT,
    DetachOption,
    NewSession,
    PatienceOption,
    credential_for,
    new_session_id,
    run_upkeep,
)
from workers.cli.starts import credentials_of, upkeep_start
from workers.cli.tables import plain_table
from workers.job_settings import AD_HOC
from workers.repository_settings import RepositorySettings
from workers.retention_settings import retention_of
from workflows.messages import ByHand, MachineUpkeepRequest, UpkeepOptions

IF_STOPPED = "what was begun is brought to its end"

_DAYS_BACK = 7

OfflineOption = Annotated[bool, typer.Option("--offline", help="Do it here and now, without Temporal and workers.")]
ChainArgument = Annotated[str, typer.Argument(metavar="CHAIN", help="Folder of a chain, as `retention removed` shows.")]


def register(members: typer.Typer) -> None:
    """Add the commands."""
    command(members, "removed", examples=(("retention removed", "what can be taken back, and until when"),))(listing)
    command(
        members,
        "undelete",
        examples=(
            ("retention undelete machines/web-1a2b3c4d/000001-5e6f7a8b", "bring back what was removed of a chain"),
            ("retention undelete machines/web-1a2b3c4d/000001-5e6f7a8b --days 30", "and keep it for a month"),
        ),
    )(undelete)
    command(
        members,
        "purge",
        examples=(("retention purge machines/web-1a2b3c4d/000001-5e6f7a8b", "make room now, for good"),),
    )(purge)
    command(members, "lock", examples=(("retention lock 3f9a --days 90", "nothing removes the point for 90 days"),))(
        lock
    )


def listing(run: Invocation, *, repository: RepositoryOption = None) -> None:
    """List what was removed from chains and can still be taken back."""
    settings = run.repository_settings(repository)
    graves = graves_of(run.repository(settings))
    table = plain_table("=CHAIN", "=FILE", "=REMOVED", "=AT LEAST UNTIL", ">SIZE")
    for grave in graves:
        removed, size = wording.moment(grave.file.removed), wording.size(grave.size_bytes)
        table.add_row(grave.chain, grave.file.name, removed, _promised(grave), size)
    run.show({"removed": graves}, table if graves else "nothing was removed that could be taken back")


def undelete(
    run: Invocation,
    chain: ChainArgument,
    *,
    days: Annotated[int, typer.Option("--days", min=1, help="For how long its points are locked then.")] = _DAYS_BACK,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
    offline: OfflineOption = False,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Bring back what was removed of a chain, and lock its points for some days, so that retention leaves them.

    It runs on the workers as a session of the machine's upkeep.
    """
    settings = run.repository_settings(repository)
    opened = run.repository(settings)
    _check_removed(opened, chain)
    if not offline:
        named = credential_for(run, settings.name, credential) if credential is not None else None
        request = msgspec.structs.replace(
            _request(run, settings, chain, ByHand.TAKING_BACK),
            lock_days=days,
            credentials=(named,) if named is not None else credentials_of(run.settings, settings.name),
        )
        _start(run, request, detach=detach, patience_s=patience)
        return
    until = run.clock.now() + timedelta(days=days)
    chosen = _chosen(run, settings, chain, credential)
    passphrase = chosen.with_passphrase(lambda known: opening_passphrase(opened, chain, (known,)))
    names = take_back(opened, chain, passphrase, until)
    said = f"{wording.count(len(names), 'file')} of {chain} are back, locked until {wording.moment(until)}"
    run.show({"chain": chain, "files": names, "locked_until": until}, said)


def purge(
    run: Invocation,
    chain: ChainArgument,
    *,
    repository: RepositoryOption = None,
    offline: OfflineOption = False,
    detach: DetachOption = False,
    patience: PatienceOption = PATIENCE_DEFAULT,
) -> None:
    """Delete for good what was removed of a chain, whatever is left of its grace period.

    It runs on the workers as a session of the machine's upkeep.
    """
    settings = run.repository_settings(repository)
    opened = run.repository(settings)
    _check_removed(opened, chain)
    if not offline:
        _start(run, _request(run, settings, chain, ByHand.PURGE), detach=detach, patience_s=patience)
        return
    purged = purge_chain(opened, chain, run.clock.now())
    run.show(purged, f"{wording.count(purged.files, 'file')} deleted, {wording.size(purged.freed_bytes)} freed")


def lock(
    run: Invocation,
    point: Annotated[str, typer.Argument(metavar="POINT", help="First digits of its id, or latest.")],
    *,
    days: Annotated[int, typer.Option("--days", min=1, help="For how many days from now.")],
    machine: Annotated[str | None, typer.Option("--machine", "-m", metavar="NAME", help="Id or name.")] = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Lock a point: nothing of ours removes it, or a file it needs, before its time. A lock is never taken away.

    Where the file system and the rights allow it, its files are made immutable as well.
    """
    settings = run.repository_settings(repository)
    points, unreadable = read_points(run, settings, credential, machine)
    found = find_listed(points, point, unreadable, machine)
    opened, until = run.repository(settings), run.clock.now() + timedelta(days=days)

    def locked(passphrase: str | None) -> str:
        _note(run, opened, found.chain, passphrase, lambda: _rules_for(run, settings, found.point.machine.machine_id))
        lock_points(opened, found.chain, [PointId(found.point.id)], passphrase, until)
        return _keep(run, opened, found.chain, passphrase, settings)

    told = _chosen(run, settings, found.chain, credential).with_passphrase(locked)
    said = f"point {found.reference} is locked until {wording.moment(until)}; {told}"
    run.show({"point": found.point.id, "locked_until": until, "how": told}, said)


def _note(
    run: Invocation,
    opened: Repository,
    chain: str,
    passphrase: str | None,
    rules: Callable[[], RetentionOptions | None],
) -> None:
    """Note the points of a chain by the rules of its job, so that none loses a mark that it is due.

    Of an archive all was noted when it was begun; without a job nothing is, so that its next session can.
    """
    options = None if is_archive(chain) else rules()
    if options is None:
        return
    wish = PlanWish(options=options, now=run.clock.now())
    seen = look_at_machine(opened, opened.chain_folder(chain).parent, passphrase)
    notes = plan_machine(seen, wish).notes
    for one in seen.chains:
        if one.name == chain:
            note_chain(opened.files, one, notes)


def _rules_for(run: Invocation, settings: RepositorySettings, machine: str) -> RetentionOptions | None:
    """Return the rules of the only job with retention in a repository; of several, of the job that has the machine.

    None when that cannot be told; a lock waits for no catalog.
    """
    jobs = [job for job in run.settings.jobs if job.repository == settings.name and job.retention is not None]
    if len(jobs) > 1:
        found = None
        with suppress(CatalogUnavailable), run.catalog() as catalog:
            points = catalog.points.list(machine=machine, repository=settings.name)
            found = newest_of_a_job(run, catalog, points)
        jobs = [] if found is None else [found[1]]
    rules = [retention_of(job.retention, job.timezone, job.method) for job in jobs if job.retention is not None]
    return rules[0] if rules else None


def _keep(run: Invocation, opened: Repository, chain: str, passphrase: str | None, settings: RepositorySettings) -> str:
    """Make the files of locked points immutable; return in words how the locks are kept."""
    seen = see_chain(opened, opened.chain_folder(chain), passphrase)
    notes = {} if seen is None else {note.point_id: note for note in seen.notes}
    ends = warn_of_clock(run, settings).is_steady
    return "; ".join(sorted(keep_locks(seen, notes, run.clock.now(), ends=ends))) if seen is not None else ""


def _check_removed(opened: Repository, chain: str) -> None:
    """Raise `PointNotFound` when nothing was removed from a chain that is still there."""
    graves = graves_of(opened, opened.chain_folder(chain).parent)
    if not any(grave.chain == chain for grave in graves):
        raise PointNotFound(f"nothing of chain {chain} is there that was removed")


def _request(run: Invocation, settings: RepositorySettings, chain: str, what: ByHand) -> MachineUpkeepRequest:
    """Return what a worker is asked for; the folder stands for the machine, of which no point may be left."""
    return MachineUpkeepRequest(
        session_id=new_session_id(run),
        job=AD_HOC,
        repository=RepositoryName(settings.name),
        machine_id=MachineId(""),
        machine_name=run.repository(settings).chain_folder(chain).parent.name,
        upkeep=UpkeepOptions(),
        by_hand=what,
        chain=chain,
    )


def _start(run: Invocation, request: MachineUpkeepRequest, *, detach: bool, patience_s: float) -> None:
    new = NewSession(session_id=request.session_id, start=upkeep_start(request), if_stopped=IF_STOPPED)
    run_upkeep(run, new, detach=detach, patience_s=patience_s)


def _promised(grave: Grave) -> str:
    days = grave.grace_days
    return "" if days is None else wording.moment(grave.file.removed + timedelta(days=days))


def _chosen(run: Invocation, settings: RepositorySettings, chain: str, credential: str | None) -> ChosenChain:
    """Return a chain with what may open it: the credential that was named, that of an archive, or those of the jobs."""
    opened = run.repository(settings)
    folder = opened.chain_folder(chain)
    if credential is None and is_archive(chain):
        own = run.settings.credentials.passphrase(archive_credential(opened.files, folder))
        return ChosenChain(name=chain, folder=folder, passphrases=() if own is None else (own,))
    return ChosenChain(name=chain, folder=folder, passphrases=tuple(passphrases_for(run, settings, credential)))
