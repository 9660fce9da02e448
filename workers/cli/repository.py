"""``holdfast repository``: the folders that hold restore points."""

import secrets
from typing import Annotated

import typer

from holdfast.errors import HoldfastError
from holdfast.storage.repository import Repository
from workers.cli import wording
from workers.cli.commands import RUN, alone, command, family
from workers.cli.invocation import Invocation, error_document
from workers.cli.tables import plain_table

_ID_BYTES = 16


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "repository", panel=RUN, help_line="Repositories: the folders that hold restore points.")
    alone(members, examples=(("repository", "every repository and how it stands"),))(repositories)
    command(members, "create", examples=(("repository create main", "make the folder and its marker"),))(create)


def repositories(run: Invocation) -> None:
    """List the repositories of the configuration and how they stand."""
    table = plain_table("REPOSITORY", "STATE", ">FREE", "PATH")
    listed: list[dict[str, object]] = []
    for settings in run.settings.repositories:
        entry: dict[str, object] = {"name": settings.name, "path": settings.path}
        try:
            opened = run.repository(settings)
            free = run.files.free_bytes(settings.path)
        except HoldfastError as error:
            table.add_row(f"[bold]{settings.name}[/]", f"[red]{error.code}[/]", "-", str(settings.path))
            listed.append(entry | error_document(error))
            continue
        table.add_row(f"[bold]{settings.name}[/]", "[green]ready[/]", wording.size(free), str(settings.path))
        listed.append(entry | {"id": opened.marker.id, "free_bytes": free})
    run.show({"repositories": listed}, table if listed else "the configuration has no repository")


def create(run: Invocation, name: Annotated[str, typer.Argument(help="Repository of the configuration.")]) -> None:
    """Make a repository in an empty or new folder; nothing happens when it is there already."""
    settings = run.settings.repository(name)
    made = Repository.create(settings.path, run.files, secrets.token_hex(_ID_BYTES), run.clock.now())
    run.show(
        {"repository": name, "path": settings.path, "id": made.marker.id}, f"repository {name} is in {settings.path}"
    )
