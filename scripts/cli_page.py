"""Write docs/reference/cli.md from the commands themselves.

Usage: .venv/bin/python -m scripts.cli_page
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.text import Text
from typer.main import get_command

from workers.cli.commands import EVERYWHERE
from workers.cli.main import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"

HEAD = """\
# Commands

Every command explains itself with `--help`; this page is the same text.

- Results go to standard output, everything said on the way to standard error.
- With `--json` standard output is exactly one JSON document, also when the command fails: `{"error": {"code", "message", "hint"}}`, beside whatever could be found out.
- The exit status is 0 for success and for a session that ended with a warning, else that of the error in [errors](errors.md).
- Restore points, sessions and chain files can be looked at without Temporal: `points`, `chain`, `diff`, `export`, `prove`, `sessions`, `inspect` and `verify --offline` read files and the catalog directly.
- An interrupt (Ctrl-C) while a session is followed asks the session to stop and shows how it undoes what it has not finished; a second one leaves at once.
- A Temporal server that goes away while a session is followed is waited for; the session does not depend on the command.

This page is generated from `workers/cli/` by `scripts/cli_page.py`.

## Options of every command

They stand before the command, behind its name, and between the two words of a command such as `holdfast --json retention plan nightly`.

"""  # noqa: E501 - one sentence per line


def page() -> str:
    """Return the whole page, one section for each command."""
    program: Any = get_command(app)
    everywhere = [option for option in program.params if panel_of(option) == EVERYWHERE]
    return HEAD + options_table(everywhere) + "".join(sections(program, "holdfast"))


def sections(group: Any, name: str) -> Iterator[str]:  # noqa: ANN401 - the library keeps its types to itself
    """Yield the section of every command below ``group``."""
    for word, command in group.commands.items():
        members = getattr(command, "commands", {})
        if not members or command.invoke_without_command:
            yield section(command, f"{name} {word}")
        yield from sections(command, f"{name} {word}") if members else ()


def section(command: Any, name: str) -> str:  # noqa: ANN401 - as above
    """Return the section of one command."""
    plain = Text.from_markup(command.help or "").plain
    about, _, examples = plain.partition("\n\nExamples\n\n")
    own = [p for p in command.params if panel_of(p) != EVERYWHERE and p.name != "help"]
    arguments = [p for p in own if p.param_type_name == "argument"]
    options = [p for p in own if p.param_type_name == "option"]
    words = [name, *(argument_word(argument) for argument in arguments), *(["[OPTIONS]"] if options else [])]
    parts = [f"\n## {name}\n", f"```\n{' '.join(words)}\n```\n", f"{about.strip()}\n"]
    if arguments:
        rows = "".join(f"| `{p.metavar or p.name.upper()}` | {p.help or ''} |\n" for p in arguments)
        parts.append(f"| Argument | Meaning |\n|---|---|\n{rows}")
    if options:
        parts.append(options_table(options))
    if examples:
        parts.append(f"```\n{example_lines(examples)}```\n")
    return "\n".join(parts)


def argument_word(argument: Any) -> str:  # noqa: ANN401 - as above
    """Return an argument as a usage line shows it."""
    word = argument.metavar or argument.name.upper()
    return word if argument.required else f"[{word}]"


def options_table(options: list[Any]) -> str:
    """Return the table of some options."""
    return "| Option | Meaning |\n|---|---|\n" + "".join(option_row(option) for option in options)


def option_row(option: Any) -> str:  # noqa: ANN401 - as above
    """Return the line of one option."""
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {option.metavar or ' or '.join(values_of(option)) or 'VALUE'}"
    default = option.default
    shown = "" if default in (None, False, (), []) or callable(default) else f" Default: {default_word(option)}."
    return f"| {names}{value} | {option.help or ''}{shown} |\n"


def default_word(option: Any) -> str:  # noqa: ANN401 - as above
    """Return a number as people write it, a switch by its name, anything else as it is typed."""
    default = option.default
    if default is True:
        return f"`{option.opts[0]}`"
    return f"{default:g}" if isinstance(default, int | float) else f"`{default}`"


def values_of(option: Any) -> list[str]:  # noqa: ANN401 - as above
    """Return what an option may be when it is one of a few words."""
    choices = getattr(option.type_descriptor, "choices", None) or ()
    return [f"`{getattr(choice, 'value', choice)}`" for choice in choices]


def example_lines(examples: str) -> str:
    """Return command lines with their meaning as comments."""
    lines = [line for line in examples.splitlines() if line.strip()]
    return "".join(f"# {line.strip()}\n" if line.startswith(" ") else f"{line}\n" for line in reordered(lines))


def reordered(lines: list[str]) -> Iterator[str]:
    """Yield each meaning before its command line."""
    command = ""
    for line in lines:
        if line.startswith(" "):
            yield line
            yield command
            command = ""
            continue
        if command:
            yield command
        command = line
    if command:
        yield command


def panel_of(parameter: Any) -> str | None:  # noqa: ANN401 - as above
    """Return the group of options a parameter is shown in."""
    panel: str | None = getattr(parameter, "rich_help_panel", None)
    return panel


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
