"""Registers commands: each gets the common options, its examples, and an `Invocation` as first argument."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from holdfast.errors import OperationCancelled
from workers.cli.invocation import Flags, Invocation

EVERYWHERE = "Options of every command"
PROTECT = "Protect and recover"
LOOK = "Look"
RUN = "Set up and run"

_ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Configuration file.", rich_help_panel=EVERYWHERE),
]
_JsonOption = Annotated[
    bool, typer.Option("--json", help="Write the result as one JSON document.", rich_help_panel=EVERYWHERE)
]
_QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but the result.", rich_help_panel=EVERYWHERE)
]
_DebugOption = Annotated[
    bool, typer.Option("--debug", help="Log everything, and show where errors arose.", rich_help_panel=EVERYWHERE)
]
_COMMON = {"config": _ConfigOption, "json": _JsonOption, "quiet": _QuietOption, "debug": _DebugOption}
_BROKEN_PIPE_STATUS = 141
"""What a shell reports of a program whose reader went away."""
_Example = tuple[str, str]
"""A command line without the program's name, and what it does."""


def command(
    app: typer.Typer, name: str, *, panel: str | None = None, examples: Sequence[_Example] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as the command ``name``; its docstring is what ``--help`` says."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        app.command(name, help=help_text(function, examples), rich_help_panel=panel)(_entry(function))
        return function

    return register


def family(app: typer.Typer, name: str, *, panel: str | None = None, help_line: str) -> typer.Typer:
    """Register a family of commands (``holdfast NAME ...``) and return it, for its commands to be registered with.

    It takes the common options for them. Without `alone` one of its commands has to be named.
    """
    members = typer.Typer(name=name, help=help_line, rich_markup_mode="rich", no_args_is_help=False)
    members.callback(help=help_line)(_entry(_nothing, only_alone=True))
    app.add_typer(members, name=name, rich_help_panel=panel)
    return members


def alone(members: typer.Typer, *, examples: Sequence[_Example] = ()) -> Callable[[Callable[..., None]], None]:
    """Register what a family does when none of its commands is named."""

    def register(function: Callable[..., None]) -> None:
        members.callback(invoke_without_command=True, help=help_text(function, examples))(
            _entry(function, only_alone=True)
        )

    return register


def help_text(function: Callable[..., None], examples: Sequence[_Example]) -> str:
    """Return the docstring of a command with its examples."""
    text = inspect.getdoc(function) or ""
    if not examples:
        return text
    rows = "\n".join(f"[bold]holdfast {line}[/]\n    {meaning}\n" for line, meaning in examples)
    return f"{text}\n\n[bold underline]Examples[/]\n\n{rows}"


def _nothing(run: Invocation) -> None:
    """Do nothing: the command that is named does it all."""


def _entry(function: Callable[..., None], *, only_alone: bool = False) -> Callable[..., None]:
    """Return ``function`` as the command line library calls it, with the common options as further parameters."""

    def entered(context: typer.Context, **given: Any) -> None:  # noqa: ANN401 - options of any type
        common = {key: given.pop(key) for key in _COMMON}
        flags = Flags(**common)
        if isinstance(context.obj, Flags):
            flags = context.obj.joined(flags)
        if only_alone and context.invoked_subcommand is not None:
            context.obj = flags
            return
        invocation = Invocation(flags)
        with invocation.logging(), closing(invocation):
            try:
                function(invocation, **given)
            except KeyboardInterrupt as error:
                raise OperationCancelled("stopped by the terminal") from error
            except BrokenPipeError as error:
                raise typer.Exit(_BROKEN_PIPE_STATUS) from error

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    common = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None if key == "config" else False, annotation=a)
        for key, a in _COMMON.items()
    ]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    parameters = [context, *keywords, *common]
    entered.__name__ = function.__name__
    entered.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what inspect looks at first
    entered.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return entered
