"""The tables hold every field of the values."""

import pytest
from msgspec import Struct
from sqlalchemy import Table

from holdfast.catalog import schema
from holdfast.catalog.events import SessionEvent
from holdfast.catalog.points import ChainMark, RestorePointRecord
from holdfast.model.session import Figures, Problem, Session, Task

PROBLEM = {f"problem_{part}" for part in Problem.__struct_fields__}
SPREAD = {"figures": set(Figures.__struct_fields__), "problem": PROBLEM, "notes": set[str]()}


@pytest.mark.parametrize(
    "table, value",
    [
        (schema.sessions, Session),
        (schema.tasks, Task),
        (schema.session_events, SessionEvent),
        (schema.restore_points, RestorePointRecord),
        (schema.chain_marks, ChainMark),
    ],
)
def test_a_table_has_a_column_for_every_field(table: Table, value: type[Struct]) -> None:
    expected: set[str] = set()
    for field in value.__struct_fields__:
        expected |= SPREAD.get(field, {field})
    assert set(table.columns.keys()) == expected
