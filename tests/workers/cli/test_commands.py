"""Every command gets the common options, its examples, and a help a person can learn from."""

from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from holdfast.errors import RequestInvalid
from workers.cli.commands import alone, command, family, help_text
from workers.cli.invocation import Invocation
from workers.cli.main import Program, app


def every_command(group: Any, name: str = "holdfast") -> list[tuple[str, Any]]:
    found = []
    for word, entry in group.commands.items():
        found.append((f"{name} {word}", entry))
        if hasattr(entry, "commands"):
            found += every_command(entry, f"{name} {word}")
    return found


COMMANDS = every_command(get_command(app))


@pytest.mark.parametrize("name, entry", COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_explains_itself_and_its_arguments(name: str, entry: Any) -> None:
    assert entry.help, name
    unexplained = [p.name for p in entry.params if p.name != "help" and not getattr(p, "help", None)]
    assert unexplained == []


@pytest.mark.parametrize("name, entry", COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_takes_the_common_options(name: str, entry: Any) -> None:
    assert {"config", "json", "quiet", "debug"} <= {p.name for p in entry.params}, name


def greeting() -> typer.Typer:
    program = typer.Typer(cls=Program)
    members = family(program, "greet", help_line="Greet.")
    program.command("other")(lambda: None)

    @alone(members)
    def nobody(run: Invocation, *, loud: bool = False) -> None:
        """Greet nobody."""
        run.show({"greeted": None, "loud": loud}, "nobody")

    @command(members, "one", examples=(("greet one Ann", "greet Ann"),))
    def one(run: Invocation, name: Annotated[str, typer.Argument(help="Whom.")]) -> None:
        """Greet one."""
        run.show({"greeted": name}, f"hello {name}")

    return program


def test_a_family_does_its_own_when_no_member_is_named() -> None:
    result = CliRunner().invoke(greeting(), ["greet", "--loud", "--json"])
    assert '"loud": true' in result.stdout
    assert CliRunner().invoke(greeting(), ["greet", "one", "Ann"]).stdout == "hello Ann\n"


def test_common_options_of_a_family_hold_for_its_members() -> None:
    result = CliRunner().invoke(greeting(), ["greet", "--json", "one", "Ann"])
    assert '"greeted": "Ann"' in result.stdout


def test_a_family_that_does_nothing_by_itself_hands_the_common_options_on() -> None:
    program = typer.Typer(cls=Program)
    members = family(program, "greet", help_line="Greet.")
    program.command("other")(lambda: None)

    @command(members, "one")
    def one(run: Invocation, name: Annotated[str, typer.Argument(help="Whom.")]) -> None:
        """Greet one."""
        run.show({"greeted": name}, f"hello {name}")

    for words in (["greet", "--json", "one", "Ann"], ["greet", "one", "Ann", "--json"]):
        assert '"greeted": "Ann"' in CliRunner().invoke(program, words).stdout
    assert CliRunner().invoke(program, ["greet", "one", "[/b]"]).stdout == "hello [/b]\n"
    assert CliRunner().invoke(program, ["greet"]).exit_code == RequestInvalid.exit_status


def test_examples_stand_below_the_help() -> None:
    def one(run: Invocation) -> None:
        """Do one thing."""

    text = help_text(one, (("one", "does it"),))
    assert text.startswith("Do one thing.\n\n")
    assert "holdfast one" in text
    assert help_text(one, ()) == "Do one thing."
