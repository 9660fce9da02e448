"""The program ``holdfast``: every command, and what becomes of errors.

An error of ours ends the program with the exit status of its class (docs/reference/errors.md), anything unforeseen
with 70 and one line; ``--debug`` adds where it arose. With ``--json`` errors are a JSON document on standard output.
"""

import contextlib
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, NoReturn, cast

import typer
from rich.text import Text
from typer.core import TyperGroup
from typer.main import get_group
from typing_extensions import override

from holdfast import __version__
from holdfast.errors import HoldfastError, OperationCancelled, RequestInvalid
from workers.cli.commands import alone
from workers.cli.failure import CommandFailed
from workers.cli.invocation import Invocation, console, error_document, write_json
from workers.cli.tables import put

COMMANDS: Final = {
    "backup": "backup",
    "quick-backup": "quick_backup",
    "archive": "archive",
    "restore": "restore",
    "compact": "compact",
    "verify": "verify",
    "export": "export",
    "retention": "retention",
    "health": "health",
    "prove": "prove",
    "doctor": "doctor",
    "points": "points",
    "sessions": "sessions",
    "slots": "slots",
    "limits": "limits",
    "watch": "watch",
    "machines": "machines",
    "machine": "machines",
    "provider": "machines",
    "inspect": "inspection",
    "chain": "chain",
    "diff": "diff",
    "demo": "demo",
    "dev": "dev",
    "worker": "worker",
    "schedule": "schedule",
    "repository": "repository",
    "certs": "certs",
}
"""Every command, in the order of ``--help``, and the module of `workers.cli` that registers it."""


class Commands(Mapping[str, Any]):
    """The commands, each imported when it is asked for: a program that is typed often has to begin at once."""

    @override
    def __getitem__(self, name: str) -> Any:
        members = typer.Typer(rich_markup_mode="rich")
        importlib.import_module(f"workers.cli.{COMMANDS[name]}").register(members)
        return get_group(members).commands[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    @override
    def __len__(self) -> int:
        return len(COMMANDS)


class Program(TyperGroup):
    """The group of all commands; the one place where errors end."""

    @override
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one command and end the process with its exit status."""
        given = list(sys.argv[1:] if args is None else args)
        status = 0
        try:
            ended = super().main(given, prog_name or "holdfast", complete_var, False, windows_expand_args, **extra)
            status = ended if isinstance(ended, int) else 0
        except Exception as error:  # noqa: BLE001 - the last place to tell of anything unforeseen
            status = _report(error, given)
        if not standalone_mode:
            return status
        sys.exit(status)


class Holdfast(Program):
    """The program with all its commands."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - what the library hands over
        super().__init__(**settings)
        self.commands = cast("Any", Commands())


app = typer.Typer(
    name="holdfast",
    cls=Holdfast,
    rich_markup_mode="rich",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@alone(app)
def overview(
    run: Invocation,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """[bold]Holdfast[/] protects virtual machines: backup, verification and restore that survive any failure.

    Start with [bold]holdfast doctor[/], which checks the installation and says what to do next.
    Every command explains itself with [bold]--help[/].
    """
    if version:
        run.show({"version": __version__}, f"holdfast {__version__}")
        return
    if run.flags.json:
        run.show({"version": __version__, "commands": list(COMMANDS)})
        return
    app(["--help"], standalone_mode=False)


def main() -> NoReturn:
    """Run the program and leave the process without the interpreter's farewell.

    The native part of the Temporal SDK may abort a process that is being torn down; there is nothing left to tear
    down once everything is written.
    """
    status = 0
    # A stream that was closed by the caller is None, which no library expects.
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        app()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader went away; there is nobody to tell
            stream.flush()
    os._exit(status)


def _report(error: Exception, given: Sequence[str]) -> int:
    """Tell what happened on the stream where it is expected; return the exit status."""
    wants = given[: given.index("--")] if "--" in given else given
    ours = _ours(error)
    if "--json" in wants:
        write_json(error.document if isinstance(error, CommandFailed) else error_document(ours))
    elif not (isinstance(error, CommandFailed) and error.is_told):
        _print_error(ours)
    if "--debug" in wants:
        traceback.print_exception(error, file=sys.stderr)
    return ours.exit_status


def _print_error(error: HoldfastError) -> None:
    err = console(sys.stderr)
    put(err, Text.assemble(("error", "bold red"), " ", (f"({error.code})", "dim"), ": ", error.message))
    if error.hint:
        put(err, Text.assemble(("hint", "bold"), ": ", error.hint))


def _ours(error: Exception) -> HoldfastError:
    """Return ``error`` as one of the tree."""
    if isinstance(error, HoldfastError):
        return error
    if isinstance(error, CommandFailed):
        return error.error
    if isinstance(error, typer.TyperException):
        message = error.format_message().strip().rstrip(".").replace("\n", " ")
        return RequestInvalid(message[:1].lower() + message[1:], hint="Add --help to see how the command is used.")
    if isinstance(error, typer.Abort):
        return OperationCancelled("stopped by the terminal")
    told = str(error).splitlines()[0] if str(error) else "no message"
    return HoldfastError(f"{type(error).__name__}: {told}")
