"""Errors end the program as the error tree says, and with --json as one document."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from holdfast.errors import RequestInvalid
from scripts import cli_page
from tests.workers.cli.place import Place, call, one_document
from workers.cli.main import COMMANDS

PROGRAM = [sys.executable, "-c", "from workers.cli.main import main; main()"]


def test_without_a_command_it_says_what_it_can_do() -> None:
    result = call()
    assert result.exit_code == 0
    assert all(word in result.stdout for word in ("backup", "restore", "doctor", "Options of every command"))


def test_without_a_command_programs_get_one_document() -> None:
    document = one_document(call("--json"))
    assert document == {**one_document(call("--version", "--json")), "commands": list(COMMANDS)}


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "retention", "removed"),
        ("retention", "--json", "removed"),
        ("retention", "removed", "--json"),
        ("chain", "--json", "show"),
        ("points", "--json"),
    ],
)
def test_common_options_stand_anywhere(place: Place, words: tuple[str, ...]) -> None:
    assert one_document(place.run(*words))


def test_the_configuration_may_be_named_before_the_member_of_a_family(place: Place) -> None:
    result = call("chain", "-c", str(place.config), "show")
    assert (result.exit_code, result.stdout) == (0, "no chains\n")


def test_a_family_without_a_command_of_its_own_asks_for_one() -> None:
    error = one_document(call("machine", "--json"), RequestInvalid.exit_status)["error"]
    assert error["message"] == "missing command"


def test_every_command_of_a_module_is_reached_by_its_name() -> None:
    registered: dict[str, str] = {}
    for name in set(COMMANDS.values()):
        members = typer.Typer()
        importlib.import_module(f"workers.cli.{name}").register(members)
        registered |= dict.fromkeys(get_group(members).commands, name)
    assert registered == COMMANDS


def test_the_program_begins_without_what_only_some_commands_need() -> None:
    heavy = "{'temporalio', 'sqlalchemy', 'opentelemetry', 'pyVmomi', 'pyVim'}"
    loaded = f"import sys, workers.cli.main; print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"


def test_the_version_is_told() -> None:
    assert one_document(call("--version", "--json"))["version"]
    assert call("--version").stdout.startswith("holdfast ")


@pytest.mark.parametrize(
    "words", [("points", "--bad"), ("poinst",), ("restore", "a", "b"), ("sessions", "--limit", "x")]
)
def test_wrong_usage_is_an_error_of_the_tree(words: tuple[str, ...]) -> None:
    error = one_document(call(*words, "--json"), RequestInvalid.exit_status)["error"]
    assert error["code"] == "request-invalid"
    assert "--help" in error["hint"]
    result = call(*words)
    assert result.exit_code == RequestInvalid.exit_status
    assert not result.stdout
    assert result.stderr.startswith("error (request-invalid): ")


def test_a_misspelt_command_leads_to_the_right_one() -> None:
    assert "Did you mean 'points'" in call("poinst").stderr


def test_options_may_stand_before_the_command(place: Place) -> None:
    result = call("--json", "--config", str(place.config), "points")
    assert one_document(result) == {"points": [], "unreadable": []}


def test_a_broken_configuration_is_named(place: Place) -> None:
    place.config.write_text("hom = 1")
    error = place.json("points", status=11)["error"]
    assert error["code"] == "configuration-invalid"
    assert error["hint"] == "Did you mean `home`?"


def test_something_unforeseen_is_one_line_and_status_70(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        message = "first line\nsecond line"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("workers.cli.invocation.load_settings", broken)
    result = place.run("points")
    assert (result.exit_code, result.stdout) == (70, "")
    assert result.stderr.splitlines()[0] == "error (internal): ZeroDivisionError: first line"
    assert "Traceback" not in result.stderr
    assert "Traceback" in place.run("points", "--debug").stderr


def test_an_interrupt_is_a_cancellation(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("workers.cli.invocation.load_settings", interrupted)
    assert place.json("points", status=64)["error"]["code"] == "cancelled"


def test_the_process_ends_with_the_status_and_everything_written(place: Place) -> None:
    done = subprocess.run([*PROGRAM, "points", "--json", "--config", place.config], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"}\n")
    failed = subprocess.run([*PROGRAM, "points", "--config", place.root], capture_output=True, check=False)
    assert failed.returncode == 11


def test_a_reader_that_goes_away_is_no_fault(place: Place, tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{PROGRAM[2]}' points --config {place.config} >&- ; echo $?"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, cwd=tmp_path, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_the_reference_page_is_what_the_program_says() -> None:
    assert cli_page.PAGE.read_text() == cli_page.page()


def test_a_switch_that_is_on_is_named_in_the_reference_page() -> None:
    text = cli_page.page()
    assert "Default: 1." not in text.replace("`--tasks`", "")
    assert "| Look for the files that changed. Default: `--files`. |" in text
