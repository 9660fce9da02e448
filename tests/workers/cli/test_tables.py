"""Tables have no lines, numbers stand to the right, strings are text, and what is pasted is never cut."""

import io

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from holdfast.model.session import Outcome
from workers.cli.invocation import console
from workers.cli.tables import coloured, facts_table, plain_table, put

SESSION = "20261121T002930Z-98106d"
MOMENT = "2026-11-21 00:29:30"
MARKUP = ["mail [old]", "mail [/old]", "a [/]", "[red]b[/red]", "c :smile:", "d [link=x]", "e\\\\[f]", "trailing\\"]


def printed(part: RenderableType, width: int = 160) -> list[str]:
    stream = io.StringIO()
    put(Console(file=stream, width=width, highlight=False), part)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_plain_table() -> None:
    stream = io.StringIO()
    table = plain_table("NAME", ">SIZE")
    table.add_row("a", "1")
    table.add_row("bb", "1000")
    console(stream).print(table)
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == ["NAME  SIZE", "a        1", "bb    1000"]


def test_a_table_of_facts() -> None:
    table = facts_table()
    table.add_row("what", "value")
    assert printed(table) == ["what  value"]


def test_facts_may_have_several_values() -> None:
    table = facts_table(values=2)
    table.add_row("what", "one", "other")
    assert printed(table) == ["what  one  other"]


@pytest.mark.parametrize("name", MARKUP)
def test_a_string_is_text_as_it_stands(name: str) -> None:
    table, facts = plain_table("NAME"), facts_table()
    table.add_row(name)
    facts.add_row(name, name)
    assert printed(table) == ["NAME", name]
    assert printed(facts) == [f"{name}  {name}"]
    assert printed(name) == [name]


def test_a_style_is_asked_for_explicitly() -> None:
    stream = io.StringIO()
    table = plain_table("NAME")
    table.add_row(Text("[x]", "bold"))
    put(Console(file=stream, force_terminal=True, color_system="standard", width=80), table)
    assert "\x1b[1m[x]\x1b[0m" in stream.getvalue()


@pytest.mark.parametrize("width", [160, 100, 80, 40])
def test_ids_times_and_numbers_are_whole_however_narrow_the_terminal_is(width: int) -> None:
    table = plain_table("=SESSION", "JOB", "=STARTED", ">READ", "PROBLEM")
    table.add_row(SESSION, "nightly-of-all-machines", MOMENT, "3.1 MiB", "the repository has no space left " * 3)
    lines = printed(table, width)
    assert all(heading in lines[0] for heading in ("SESSION", "JOB", "STARTED", "READ", "PROBLEM"))
    assert all(value in lines[1] for value in (SESSION, MOMENT, "3.1 MiB"))
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)


def test_points_fit_into_a_hundred_columns() -> None:
    table = plain_table("=POINT", "MACHINE", "=CREATED", "KIND", ">DISKS", ">STORED", "STATE", "=CHAIN")
    point = ("d7e4046e7a54", "web", MOMENT, "increment", "512 MiB", "2.9 MiB", "complete, encrypted", "000001-38308aef")
    table.add_row(*point)
    assert printed(table, 99)[1:] == [
        "d7e4046e7a54  web      2026-11-21 00:29:30  increment  512 MiB  2.9 MiB  complete,  000001-38308aef",
        " " * 73 + "encrypted",
    ]


@pytest.mark.parametrize("width", [100, 60])
def test_what_does_not_fit_is_folded(width: int) -> None:
    machine = "web-of-the-accounting-department-in-the-second-data-centre"
    table = plain_table("MACHINE", "=ID")
    table.add_row(machine, "4" * 36)
    lines = printed(table, width)
    assert max(map(len, lines)) <= width
    assert "".join(line[: line.find("  ")] if "4" in line else line for line in lines[1:]) == machine


def test_a_value_of_a_fact_is_folded() -> None:
    table = facts_table()
    table.add_row("root", "ab" * 32)
    lines = printed(table, 40)
    assert "".join(line.removeprefix("root").strip() for line in lines) == "ab" * 32


def test_a_line_of_text_is_as_long_as_it_is() -> None:
    assert printed("x" * 90, 40) == ["x" * 90]


def test_every_outcome_has_a_colour() -> None:
    assert all(outcome.value == coloured(outcome).plain and coloured(outcome).style for outcome in Outcome)
