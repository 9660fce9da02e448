"""Version 1 makes exactly these tables, for ever."""

from contextlib import closing

from sqlalchemy import inspect

from holdfast.catalog.connection import Access, Database, parse_address
from holdfast.catalog.upgrade import upgrade

FIGURES = [
    "size_bytes",
    "processed_bytes",
    "read_bytes",
    "transferred_bytes",
    "stored_bytes",
    "resent_bytes",
    "duration_s",
]
PROBLEM = ["problem_code", "problem_message", "problem_hint"]


def test_version_1_makes_the_tables_of_the_first_release(address: str) -> None:
    upgrade(parse_address(address), lock_timeout_s=1, target="0001")
    database = Database(parse_address(address), Access.READ)
    with closing(database), database.reading() as connection:
        inspector = inspect(connection)
        tables = {
            name: [column["name"] for column in inspector.get_columns(name)] for name in inspector.get_table_names()
        }
    assert tables == {
        "catalog_version": ["version_num"],
        "sessions": [
            *("session_id", "kind", "job", "repository", "provider", "outcome", "started", "ended"),
            *("workflow_id", *FIGURES, *PROBLEM),
        ],
        "tasks": [
            *("session_id", "machine_id", "disk", "machine_name", "outcome", "detail"),
            *(*FIGURES, *PROBLEM),
        ],
        "session_events": ["session_id", "sequence", "time", "severity", "text"],
        "restore_points": [
            *("repository", "point_id", "chain", "chain_id", "number", "file_id", "file_name"),
            *("generation", "root", "machine_id", "machine_name", "kind", "created", "completed"),
            *("size_bytes", "stored_bytes", "session_id", "state"),
        ],
        "chain_marks": [
            *("repository", "chain_id", "number", "point_id", "file_id", "generation", "root"),
            "recorded",
        ],
    }
