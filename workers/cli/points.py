"""``holdfast points``: the restore points of the repositories, read from their files alone."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from holdfast.errors import PointNotFound
from holdfast.model.ids import is_folder_of
from holdfast.planning.archives import kept_words
from holdfast.storage.chains.chain import chain_file_names
from workers.cli import point_files, wording
from workers.cli.chain_choice import RepositoryOption
from workers.cli.commands import LOOK, alone, family
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.reading import ListedPoint, Unreadable, read_points
from workers.cli.tables import plain_table
from workers.repository_settings import RepositorySettings

CredentialOption = Annotated[
    str | None, typer.Option("--credential", metavar="NAME", help="Name of the passphrase of encrypted chains.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "points", panel=LOOK, help_line="List restore points, and get files of machines back.")
    alone(
        members,
        examples=(
            ("points", "every restore point of every repository"),
            ("points --machine web --disks", "those of one machine, with their disks"),
            ("points --json | jq '.points[-1].id'", "the id of the newest point"),
        ),
    )(points)
    point_files.register(members)


def points(
    run: Invocation,
    *,
    machine: Annotated[str | None, typer.Option("--machine", "-m", metavar="NAME", help="Id or name.")] = None,
    disks: Annotated[bool, typer.Option("--disks", help="Show the disks of each point.")] = False,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """List restore points.

    The files of the repositories are read directly: this works without Temporal, workers or catalog.
    """
    chosen = [run.settings.repository(repository)] if repository else list(run.settings.repositories)
    if not chosen:
        chosen = [run.repository_settings(None)]
    found: list[ListedPoint] = []
    unreadable: list[Unreadable] = []
    for settings in chosen:
        listed, broken = read_points(run, settings, credential, machine)
        found += listed
        unreadable += broken
    if machine is not None and not (found or unreadable or _is_known(run, chosen, machine)):
        raise PointNotFound(f"no repository has points of machine {machine}, and no job names it")
    document = {
        "points": [describe(listed) for listed in found],
        "unreadable": [{"repository": u.repository, "chain": u.chain} | error_document(u.error) for u in unreadable],
    }
    _warn_of_points(run, found)
    table = _table(found, with_disks=disks, several=len(chosen) > 1)
    closed = [broken for broken in unreadable if not broken.is_partly]
    if closed and not run.flags.json:
        run.show(None, table)
    for broken_chain in unreadable:
        run.warn(f"chain {broken_chain.chain} of {broken_chain.repository}: {broken_chain.error.message}")
    if closed:
        raise CommandFailed(closed[0].error, document | error_document(closed[0].error))
    run.show(document, table if found else "no restore points")


def _warn_of_points(run: Invocation, found: Sequence[ListedPoint]) -> None:
    for doubted in (listed for listed in found if listed.doubt):
        run.warn(f"point {doubted.reference} of {doubted.point.machine.name} may lack changes: {doubted.doubt}")
    for damaged in (listed for listed in found if listed.damage):
        run.warn(f"point {damaged.reference} of {damaged.point.machine.name} is damaged: {damaged.damage}")


def _is_known(run: Invocation, repositories: Sequence[RepositorySettings], machine: str) -> bool:
    """Return whether a machine without points is one: a job names it, or it has a folder that holds no chain."""
    names = {settings.name for settings in repositories}
    if any(machine in job.machines for job in run.settings.jobs if job.repository in names):
        return True
    opened = [run.repository(settings) for settings in repositories]
    return any(
        is_folder_of(folder.name, machine)
        and not any(chain_file_names(found.files, chain) for chain in found.chain_folders(folder))
        for found in opened
        for folder in found.machine_folders()
    )


def describe(listed: ListedPoint) -> dict[str, object]:
    """Return a point as ``--json`` shows it."""
    point = listed.point
    return {
        "id": point.id,
        "repository": listed.repository,
        "machine": {"id": point.machine.machine_id, "name": point.machine.name},
        "created": point.created,
        "complete": point.complete,
        "doubt": listed.doubt,
        "damage": listed.damage,
        "kind": listed.kind,
        "archive": listed.archive,
        "quick": listed.is_quick,
        "chain": listed.chain,
        "number": point.number,
        "file": listed.file,
        "stored_bytes": listed.stored_bytes,
        "encrypted": listed.is_encrypted,
        "session": point.session,
        "root": point.root,
        "disks": [{"key": disk.key, "size_bytes": disk.size, "detail": disk.detail} for disk in point.disks],
        "files": [{"name": file.name, "size_bytes": file.size} for file in point.machine_files],
    }


def _table(found: list[ListedPoint], *, with_disks: bool, several: bool) -> Table:
    """Return the points for people, with their repository where there are ``several``."""
    repository = ["REPOSITORY"] if several else []
    table = plain_table("=POINT", "MACHINE", "=CREATED", "KIND", ">DISKS", ">STORED", "STATE", *repository, "=CHAIN")
    for listed in found:
        point = listed.point
        table.add_row(
            Text(listed.reference, "bold"),
            point.machine.name,
            wording.moment(point.created),
            _kind(listed),
            wording.size(sum(disk.size for disk in point.disks)),
            wording.size(listed.stored_bytes),
            _state(listed),
            *([listed.repository] if several else []),
            listed.chain.rpartition("/")[2],
        )
        if with_disks:
            for disk in point.disks:
                table.add_row("", f"  {disk.key}", "", "", wording.size(disk.size), "", Text(disk.detail, "dim"))
    return table


def _kind(listed: ListedPoint) -> str:
    if listed.archive is not None:
        return "archive"
    return f"{listed.kind}, quick" if listed.is_quick else listed.kind


def _state(listed: ListedPoint) -> Text:
    state = ("complete", "green") if listed.point.complete else ("being written", "yellow")
    if listed.doubt:
        state = ("doubtful", "yellow")
    if listed.damage:
        state = ("damaged", "red")
    further = [kept_words(listed.archive)] if listed.archive is not None else []
    further += ["encrypted"] if listed.is_encrypted else []
    return Text.assemble(state, *(f", {word}" for word in further))
