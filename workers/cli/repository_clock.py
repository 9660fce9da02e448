"""``holdfast retention clock``: whether points are judged by the clock, and the word of somebody that it is right."""

from typing import Annotated

import typer

from holdfast.planning.clock_jump import ClockSight
from holdfast.storage.chains.last_used import accept_clock, look_at_clock
from workers.cli import wording
from workers.cli.chain_choice import RepositoryOption
from workers.cli.commands import command
from workers.cli.invocation import Invocation
from workers.repository_settings import RepositorySettings

_HINT = (
    "retention removes, merges and purges nothing, and no lock ends; "
    "where the clock is right, `holdfast retention clock --accept` says so"
)


def register(members: typer.Typer) -> None:
    """Add the command."""
    command(
        members,
        "clock",
        examples=(
            ("retention clock", "when the repository was last used, and whether the clock is believed"),
            ("retention clock --accept", "the clock is right: the repository was not used for long, for instance"),
        ),
    )(clock)


def clock(
    run: Invocation,
    *,
    accept: Annotated[
        bool, typer.Option("--accept", help="Say that the clock of this host is right; retention goes on by it.")
    ] = False,
    repository: RepositoryOption = None,
) -> None:
    """Show whether the clock goes on from when the repository was last used, and confirm it.

    A clock that went back, or ahead by more than the `clock_days` of the repository, takes nothing before that.
    """
    settings = run.repository_settings(repository)
    opened = run.repository(settings)
    sight = accept_clock(opened, run.clock) if accept else look_at_clock(opened, run.clock, settings.clock_days)
    document = {"repository": settings.name, "state": sight.state, "now": sight.now, "last_used": sight.seen}
    said = f"repository {settings.name}: {sight.words}; it is {wording.moment(sight.now)} by this host"
    run.show(document, said if sight.is_steady else f"{said}; {_HINT}")


def warn_of_clock(run: Invocation, settings: RepositorySettings) -> ClockSight:
    """Return what the clock of this host looks like; warn when it is not believed."""
    sight = look_at_clock(run.repository(settings), run.clock, settings.clock_days)
    if not sight.is_steady:
        run.warn(f"{sight.words}: {_HINT}")
    return sight
