"""``holdfast chain``: chains of restore points, looked at and looked after without Temporal and workers."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from holdfast.errors import ChainBroken, HoldfastError
from holdfast.model.chain_view import ChainView
from holdfast.storage.chains.metadata import refresh_metadata
from holdfast.storage.files.chain_lock import acquire_chain_lock
from holdfast.storage.tools.chain_import import import_chain
from holdfast.storage.tools.chain_survey import look_at_chain
from workers.cli import chain_moves, wording
from workers.cli.chain_choice import (
    ChainArgument,
    ChosenChain,
    CredentialOption,
    MachineOption,
    RepositoryOption,
    chosen_chains,
    found_chain,
)
from workers.cli.chain_svg import chain_svg
from workers.cli.chain_text import chain_picture
from workers.cli.commands import LOOK, command, family
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, error_document
from workers.cli.pace import Pace


def register(app: typer.Typer) -> None:
    """Add the commands."""
    members = family(app, "chain", panel=LOOK, help_line="Look at chains of restore points, and after them.")
    command(
        members,
        "show",
        examples=(
            ("chain show", "every chain of the repository as a picture"),
            ("chain show --machine web01 --svg web01.svg", "and as a file for a browser or a report"),
            ("chain show /mnt/shelf/000001-9f8e7d6c", "a chain found on a disk"),
        ),
    )(show)
    command(
        members,
        "import",
        examples=(("chain import /mnt/shelf/000001-9f8e7d6c", "copy a chain into the repository, and read it back"),),
    )(import_found)
    command(
        members,
        "rebuild-metadata",
        examples=(
            ("chain rebuild-metadata machines/web-1a2b3c4d/000001-9f8e7d6c", "make the metadata of one chain anew"),
            ("chain rebuild-metadata --machine web01", "that of every chain of a machine"),
        ),
    )(rebuild_metadata)
    chain_moves.register(members)


def show(
    run: Invocation,
    chain: ChainArgument = None,
    *,
    machine: MachineOption = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture as SVG, too.")] = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Show chains as pictures: points, what each needs, sizes, what keeps them, and what is wrong.

    Tables are read and disks are not, so bytes that are damaged on the storage show in `verify` alone.
    """
    views: list[ChainView] = []
    unreadable: list[tuple[ChosenChain, HoldfastError]] = []
    for chosen in chosen_chains(run, chain, machine, repository, credential):
        try:
            views.append(_look(run, chosen))
        except HoldfastError as error:
            unreadable.append((chosen, error))
    if svg is not None:
        run.files.replace(svg.absolute(), chain_svg(views).encode())
    document: dict[str, object] = {
        "chains": [_described(view) for view in views],
        "unreadable": [{"chain": chosen.name} | error_document(error) for chosen, error in unreadable],
        "svg": svg,
    }
    for closed, why in unreadable:
        run.warn(f"chain {closed.name}: {why.message}")
    problem = _first_problem(views) or next((error for _, error in unreadable), None)
    if problem is None:
        run.show(document, *_pages(views))
        return
    if not run.flags.json:
        run.show(None, *_pages(views))
    raise CommandFailed(problem, document | error_document(problem))


def rebuild_metadata(
    run: Invocation,
    chain: ChainArgument = None,
    *,
    machine: MachineOption = None,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Write the metadata of chains anew from their files; what was there is replaced.

    Without a chain or machine that of every chain of the repository is written. A chain that a session writes to is
    refused.
    """
    chosen = chosen_chains(run, chain, machine, repository, credential)
    rebuild(run, chosen)
    run.show({"rebuilt": [found.name for found in chosen]}, *(f"metadata of chain {c.name} written" for c in chosen))


def import_found(
    run: Invocation,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder with the chain's files.")],
    *,
    repository: RepositoryOption = None,
    credential: CredentialOption = None,
) -> None:
    """Copy a chain that was found on a disk into a repository, where its machine has it again.

    Every stored byte of the copy is read back before it counts; the folder that was found stays as it is. When no
    chain of the machine has a newer point, the next run of a job with the machine continues the imported one.
    """
    settings = run.repository_settings(repository)
    found = found_chain(run, folder, credential)
    opened = run.repository(settings)
    paces: dict[str, Pace] = {}

    def report(what: str, done: int, of: int) -> None:
        paces.setdefault(what, Pace(run, f"{what} {folder.name}"))(done, of)

    made = found.with_passphrase(lambda passphrase: import_chain(opened, folder, passphrase, report))
    for name in made.left_out:
        run.warn(f"{name} holds no complete point and stays where it is")
    behind = "the next run continues it" if made.is_continued else "another chain of the machine has newer points"
    words = f"{wording.count(made.points, 'point')} of {made.machine_name}, {wording.size(made.size_bytes)}; {behind}"
    run.show(made, f"chain {made.chain} is in repository {settings.name}: {words}")


def rebuild(run: Invocation, chains: list[ChosenChain]) -> None:
    """Write the metadata of chains anew. Raises `ChainBusy` while a session writes to one."""
    for chosen in chains:
        lock = acquire_chain_lock(run.files, chosen.folder)
        try:
            chosen.with_passphrase(partial(refresh_metadata, run.files, chosen.folder))
        finally:
            lock.close()


def _look(run: Invocation, chosen: ChosenChain) -> ChainView:
    return chosen.with_passphrase(lambda passphrase: look_at_chain(run.files, chosen.folder, chosen.name, passphrase))


def _pages(views: list[ChainView]) -> list[RenderableType]:
    if not views:
        return ["no chains"]
    parts: list[RenderableType] = []
    for view in views:
        parts += [*([""] if parts else []), *chain_picture(view)]
    return parts


def _described(view: ChainView) -> dict[str, object]:
    """Return a chain as ``--json`` shows it."""
    return {
        "name": view.name,
        "id": view.id,
        "machines": view.machines,
        "encrypted": view.is_encrypted,
        "unit_size": view.unit_size,
        "size_bytes": view.size_bytes,
        "is_sound": view.is_sound,
        "files": view.files,
        "troubles": view.troubles,
        "leftovers": view.leftovers,
    }


def _first_problem(views: list[ChainView]) -> ChainBroken | None:
    for view in views:
        troubles = [*view.troubles, *(file.trouble for file in view.files), *(p.trouble for p in view.points)]
        for trouble in filter(None, troubles):
            hint = "`holdfast verify` says what can still be restored; `chain rebuild-metadata` writes metadata anew."
            return ChainBroken(f"chain {view.name}: {trouble}", hint=hint)
    return None
