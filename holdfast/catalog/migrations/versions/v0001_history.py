"""Sessions, tasks, events, restore points and the marks of chains."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKeyConstraint,
    Integer,
    PrimaryKeyConstraint,
    UniqueConstraint,
)

from holdfast.catalog.columns import PlainText, UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    _make_sessions()
    _make_tasks()
    _make_session_events()
    _make_restore_points()
    _make_chain_marks()


def _make_sessions() -> None:
    op.create_table(
        "sessions",
        Column("session_id", PlainText, nullable=False),
        Column("kind", PlainText, nullable=False),
        Column("job", PlainText, nullable=False),
        Column("repository", PlainText, nullable=False),
        Column("provider", PlainText, nullable=False),
        Column("outcome", PlainText, nullable=False),
        Column("started", UtcTime, nullable=False),
        Column("ended", UtcTime),
        Column("workflow_id", PlainText, nullable=False),
        *_figures(),
        *_problem(),
        PrimaryKeyConstraint("session_id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_started", "sessions", ["started"])


def _make_tasks() -> None:
    op.create_table(
        "tasks",
        Column("session_id", PlainText, nullable=False),
        Column("machine_id", PlainText, nullable=False),
        Column("disk", PlainText, nullable=False),
        Column("machine_name", PlainText, nullable=False),
        Column("outcome", PlainText, nullable=False),
        Column("detail", PlainText, nullable=False),
        *_figures(),
        *_problem(),
        PrimaryKeyConstraint("session_id", "machine_id", "disk", name="pk_tasks"),
        ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_tasks_sessions"),
    )


def _make_session_events() -> None:
    op.create_table(
        "session_events",
        Column("session_id", PlainText, nullable=False),
        Column("sequence", Integer, nullable=False, autoincrement=False),
        Column("time", UtcTime, nullable=False),
        Column("severity", PlainText, nullable=False),
        Column("text", PlainText, nullable=False),
        PrimaryKeyConstraint("session_id", "sequence", name="pk_session_events"),
        ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name="fk_session_events_sessions"),
    )


def _make_restore_points() -> None:
    op.create_table(
        "restore_points",
        Column("repository", PlainText, nullable=False),
        Column("point_id", PlainText, nullable=False),
        Column("chain", PlainText, nullable=False),
        Column("chain_id", PlainText, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("file_id", PlainText, nullable=False),
        Column("file_name", PlainText, nullable=False),
        Column("generation", BigInteger, nullable=False),
        Column("root", PlainText, nullable=False),
        Column("machine_id", PlainText, nullable=False),
        Column("machine_name", PlainText, nullable=False),
        Column("kind", PlainText, nullable=False),
        Column("created", UtcTime, nullable=False),
        Column("completed", UtcTime, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("stored_bytes", BigInteger, nullable=False),
        Column("session_id", PlainText, nullable=False),
        Column("state", PlainText, nullable=False),
        PrimaryKeyConstraint("repository", "point_id", name="pk_restore_points"),
        UniqueConstraint("repository", "chain_id", "number", name="uq_restore_points_place"),
    )
    op.create_index("ix_restore_points_created", "restore_points", ["created"])
    op.create_index("ix_restore_points_machine_id_created", "restore_points", ["machine_id", "created"])


def _make_chain_marks() -> None:
    op.create_table(
        "chain_marks",
        Column("repository", PlainText, nullable=False),
        Column("chain_id", PlainText, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("point_id", PlainText, nullable=False),
        Column("file_id", PlainText, nullable=False),
        Column("generation", BigInteger, nullable=False),
        Column("root", PlainText, nullable=False),
        Column("recorded", UtcTime, nullable=False),
        PrimaryKeyConstraint("repository", "chain_id", name="pk_chain_marks"),
    )


def _figures() -> list[Column[int] | Column[float]]:
    counters = ("size", "processed", "read", "transferred", "stored", "resent")
    columns: list[Column[int] | Column[float]] = [
        Column(f"{counter}_bytes", BigInteger, nullable=False) for counter in counters
    ]
    return [*columns, Column("duration_s", Double, nullable=False)]


def _problem() -> list[Column[str]]:
    return [Column(f"problem_{part}", PlainText) for part in ("code", "message", "hint")]
