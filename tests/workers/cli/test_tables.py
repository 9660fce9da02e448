"""Tables have no lines, and numbers stand to the right."""

import io

from holdfast.model.session import Outcome
from workers.cli.invocation import console
from workers.cli.tables import coloured, facts_table, plain_table


def test_a_plain_table() -> None:
    stream = io.StringIO()
    table = plain_table("NAME", ">SIZE")
    table.add_row("a", "1")
    table.add_row("bb", "1000")
    console(stream).print(table)
    assert [line.rstrip() for line in stream.getvalue().splitlines()] == ["NAME  SIZE", "a        1", "bb    1000"]


def test_a_table_of_facts() -> None:
    stream = io.StringIO()
    table = facts_table()
    table.add_row("what", "value")
    console(stream).print(table)
    assert stream.getvalue().split() == ["what", "value"]


def test_every_outcome_has_a_colour() -> None:
    assert all(outcome.value in coloured(outcome) for outcome in Outcome)
