"""``holdfast points files``: the files of a machine that a restore point keeps, listed or written into a folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from holdfast.errors import DiskWriteFailed, FileDamaged, RequestInvalid
from holdfast.model.machine_files import MachineFile, MachineFiles
from holdfast.storage.points.point_files import read_files
from workers.cli import wording
from workers.cli.commands import command
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.reading import ListedPoint, find_listed, open_chain, passphrases_for, read_points
from workers.cli.tables import plain_table

_ONLY_OWNER = 0o600
"""Files of machines may hold secrets, such as the passwords of their consoles."""


def register(members: typer.Typer) -> None:
    """Add the command to its family."""
    command(
        members,
        "files",
        examples=(
            ("points files latest --machine web01", "which files of the machine the newest point keeps"),
            ("points files latest --machine web01 --to ./web01", "and write them into a folder"),
        ),
    )(files)


def files(
    run: Invocation,
    point: Annotated[str, typer.Argument(metavar="POINT", help="First digits of a point's id, or `latest`.")],
    *,
    machine: Annotated[str | None, typer.Option("--machine", "-m", metavar="NAME", help="Id or name.")] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Write the files into this folder.")] = None,
    repository: Annotated[
        str | None, typer.Option("--repository", "-r", metavar="NAME", help="Needed when there are several.")
    ] = None,
    credential: Annotated[
        str | None, typer.Option("--credential", metavar="NAME", help="Name of the passphrase of encrypted chains.")
    ] = None,
) -> None:
    """List the files of a machine that a restore point keeps, such as its vmx and nvram, or get them back.

    With `--to` they are written into a folder, which is made if need be; nothing that is there is overwritten. The
    files of the repository are read directly: this works without Temporal, workers or catalog.
    """
    settings = run.repository_settings(repository)
    listed, unreadable = read_points(run, settings, credential, machine)
    for broken in unreadable:
        run.warn(f"chain {broken.chain} of {broken.repository}: {broken.error.message}")
    chosen = find_listed(listed, point, unreadable, machine)
    with open_chain(run.repository(settings), chosen.chain, passphrases_for(run, settings, credential)) as chain:
        found = read_files(chain, chosen.point.number)
    written = [] if to is None else _write(to, found.files)
    _show(run, chosen, found, written)


def _show(run: Invocation, chosen: ListedPoint, found: MachineFiles, written: Sequence[Path]) -> None:
    """Show what was found; the command fails when a file of the point is damaged, whatever else was written."""
    document: dict[str, object] = {
        "point": chosen.point.id,
        "repository": chosen.repository,
        "machine": {"id": chosen.point.machine.machine_id, "name": chosen.point.machine.name},
        "files": [{"name": file.name, "size_bytes": len(file.content)} for file in found.files],
        "left_out": [{"name": file.name, "reason": file.reason} for file in found.left_out],
        "written": list(written),
    }
    nothing = f"point {chosen.reference} keeps no files of {chosen.point.machine.name}"
    if not found.left_out:
        run.show(document, _table(found.files, written) if found.files else nothing)
        return
    if not run.flags.json:
        run.show(None, _table(found.files, written))
    lost = found.left_out[0]
    error = FileDamaged(f"file {lost.name} of point {chosen.reference}: {lost.reason}")
    raise CommandFailed(error, document | error_document(error))


def _write(folder: Path, found: Sequence[MachineFile]) -> list[Path]:
    """Write files that are not there yet; none is written when one is."""
    paths = [folder / file.name for file in found]
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise RequestInvalid(f"{there[0]} is there already", hint="Name another folder with `--to`.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, file in zip(paths, found, strict=True):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _ONLY_OWNER), "wb") as stream:
                stream.write(file.content)
    except OSError as error:
        raise DiskWriteFailed(f"writing into {folder}: {error.strerror}") from error
    return paths


def _table(found: Sequence[MachineFile], written: Sequence[Path]) -> Table:
    table = plain_table("FILE", ">SIZE", *(["WRITTEN TO"] if written else []))
    for index, file in enumerate(found):
        row = [file.name, wording.size(len(file.content))]
        table.add_row(*row, *([str(written[index])] if written else []))
    return table
