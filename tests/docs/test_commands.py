"""Commands and settings of the pages are those of the program."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from tests.architecture import tree
from tests.docs import pages
from workers.cli.main import app
from workers.config import load_settings

PROGRAM = "holdfast"


def lines_of(page: str) -> Iterator[str]:
    """Yield the commands of a page: those after a prompt, and those in code spans."""
    for block in pages.blocks(page, "console"):
        joined = block.replace("\\\n", " ")
        yield from (line.removeprefix("$ ") for line in joined.splitlines() if line.startswith(f"$ {PROGRAM} "))
    yield from (name for name in pages.names_in(pages.prose(page)) if name.startswith(f"{PROGRAM} "))


# The pages of the formats name keys by labels that begin with the name of the program too.
READ = [page for page in pages.pages() if not page.startswith("docs/formats/")]
COMMANDS = sorted({(page, line) for page in READ for line in lines_of(page) if "<" not in line})


@pytest.mark.parametrize("page, line", COMMANDS)
def test_every_command_of_a_page_is_one_of_the_program(page: str, line: str) -> None:
    command: TyperGroup | TyperCommand = program()
    words = shlex.split(line)[1:]
    path = [PROGRAM]
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        path.append(words.pop(0))
        command = command.commands[path[-1]]  # type: ignore[assignment] # a group holds nothing else
    if isinstance(command, TyperGroup):
        assert not words or words[0].startswith("--"), f"{' '.join(path)} has no command {words[0]}"
    if words or is_after_prompt(page, line):
        command.make_context(" ".join(path), words)


@pytest.mark.parametrize("page", [page for page in pages.pages() if pages.blocks(page, "toml")])
def test_every_configuration_of_a_page_can_be_loaded(page: str, tmp_path: Path) -> None:
    for block in pages.blocks(page, "toml"):
        file = tmp_path / "holdfast.toml"
        file.write_text(block, "utf-8")
        load_settings(file, {})


def program() -> TyperGroup:
    """Return the assembled program."""
    found = typer.main.get_command(app)
    assert isinstance(found, TyperGroup)
    return found


def is_after_prompt(page: str, line: str) -> bool:
    """Tell whether a command is shown as it is run; in running text it may lack what it needs."""
    return f"$ {line}\n" in tree.text(page)
