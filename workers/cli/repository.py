"""``holdfast repository``: the folders that hold restore points."""

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from holdfast.errors import HoldfastError, PassphraseWrong
from holdfast.storage.chains.metadata import refresh_metadata
from holdfast.storage.chains.repository import Repository
from holdfast.storage.health import folder as chain_health
from holdfast.storage.health.salvage import SalvageReport
from workers.cli import wording
from workers.cli.commands import RUN, alone, command, family
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.reading import passphrases_for
from workers.cli.tables import plain_table

_ID_BYTES = 16


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "repository", panel=RUN, help_line="Repositories: the folders that hold restore points.")
    alone(members, examples=(("repository", "every repository and how it stands"),))(repositories)
    command(members, "create", examples=(("repository create main", "make the folder and its marker"),))(create)
    command(
        members,
        "rebuild-file",
        examples=(
            (
                "repository rebuild-file machines/web-1a2b3c4d/000001-9f8e7d6c 00000002-increment.hfc",
                "make a chain file anew that `verify` calls damaged",
            ),
        ),
    )(rebuild_file)


def repositories(run: Invocation) -> None:
    """List the repositories of the configuration and how they stand.

    The command fails when one of them cannot be used.
    """
    table = plain_table("REPOSITORY", "STATE", ">FREE", "PATH")
    listed: list[dict[str, object]] = []
    problems: list[HoldfastError] = []
    for settings in run.settings.repositories:
        entry: dict[str, object] = {"name": settings.name, "path": settings.path}
        try:
            opened = run.repository(settings)
            free = run.files.free_bytes(settings.path)
        except HoldfastError as error:
            table.add_row(Text(settings.name, "bold"), Text(error.code, "red"), "-", str(settings.path))
            listed.append(entry | error_document(error))
            problems.append(error)
            continue
        table.add_row(Text(settings.name, "bold"), Text("ready", "green"), wording.size(free), str(settings.path))
        listed.append(entry | {"id": opened.marker.id, "free_bytes": free})
    document: dict[str, object] = {"repositories": listed}
    if not problems:
        run.show(document, table if listed else "the configuration has no repository")
        return
    if not run.flags.json:
        run.show(None, table)
    raise CommandFailed(problems[0], document | error_document(problems[0]))


def create(run: Invocation, name: Annotated[str, typer.Argument(help="Repository of the configuration.")]) -> None:
    """Make a repository in an empty or new folder; nothing happens when it is there already."""
    settings = run.settings.repository(name)
    made = Repository.create(settings.path, run.files, secrets.token_hex(_ID_BYTES), run.clock.now())
    run.show(
        {"repository": name, "path": settings.path, "id": made.marker.id}, f"repository {name} is in {settings.path}"
    )


def rebuild_file(
    run: Invocation,
    chain: Annotated[str, typer.Argument(help="Chain, as `verify` and `points --json` name it.")],
    file: Annotated[str, typer.Argument(help="Name of the chain file.")],
    *,
    repository: Annotated[
        str | None, typer.Option("--repository", "-r", metavar="NAME", help="Needed when there are several.")
    ] = None,
    credential: Annotated[
        str | None, typer.Option("--credential", metavar="NAME", help="Credential that opens the chain.")
    ] = None,
) -> None:
    """Rebuild a chain file whose superblocks or tables are damaged from the records inside it.

    A rebuilt point counts only when its root is the one that was recorded; the damaged file is kept under another
    name. Data that is damaged itself does not come back.
    """
    settings = run.repository_settings(repository)
    opened = run.repository(settings)
    path = opened.chain_file(chain, file)
    folder = path.parent
    report = _rebuilt(run, folder, file, passphrases_for(run, settings, credential))
    document = {"chain": chain, "rebuilt": report}
    for name in report.lost_files:
        run.warn(f"the machine file {name} is lost: its bytes are damaged")
    points = ", ".join(str(number) for number in report.points)
    run.show(document, f"{file} is rebuilt with point {points}; the damaged file is kept as {report.kept_as}")


def _rebuilt(run: Invocation, folder: Path, file: str, passphrases: list[str]) -> SalvageReport:
    """Rebuild with the first passphrase that opens the chain, or without one."""
    for passphrase in passphrases:
        try:
            report = chain_health.rebuild_file(run.files, folder, file, passphrase)
        except PassphraseWrong:
            continue  # another one may open it
        refresh_metadata(run.files, folder, passphrase)
        return report
    report = chain_health.rebuild_file(run.files, folder, file, None)
    refresh_metadata(run.files, folder, None)
    return report
