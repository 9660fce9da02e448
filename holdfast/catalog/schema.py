"""The tables as they are after the newest migration.

A change here needs a migration in ``migrations/versions``; a test compares the two. Sessions are
never deleted. Restore points carry the id of their session without a reference to its row, because
points found in a repository may come from another installation.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from holdfast.catalog.columns import PlainText, UtcTime

SCHEMA_VERSION = "0002"
"""The newest migration. Versions are four digits and grow."""

VERSION_TABLE = "catalog_version"
"""Where Alembic keeps the version; an own name, so that another program may share the database."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, PlainText, primary_key=primary_key, nullable=False)


def _bytes(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _figures() -> list[Column[int] | Column[float]]:
    return [
        _bytes("size_bytes"),
        _bytes("processed_bytes"),
        _bytes("read_bytes"),
        _bytes("transferred_bytes"),
        _bytes("stored_bytes"),
        _bytes("resent_bytes"),
        Column("duration_s", Double, nullable=False),
        *(_busy(stage) for stage in ("source_s", "proxy_s", "network_s", "target_s", "throttled_s")),
    ]


def _busy(name: str) -> Column[float]:
    """Return a column that came later: rows from before hold 0."""
    return Column(name, Double, nullable=False, server_default=text("0"))


def _problem() -> list[Column[str]]:
    """Return the columns of a problem; without one all three are null."""
    return [Column(f"problem_{part}", PlainText) for part in ("code", "message", "hint")]


def _session_id() -> Column[str]:
    return Column("session_id", PlainText, ForeignKey("sessions.session_id"), primary_key=True)


sessions = Table(
    "sessions",
    metadata,
    _text("session_id", primary_key=True),
    _text("kind"),
    _text("job"),
    _text("repository"),
    _text("provider"),
    _text("outcome"),
    Column("started", UtcTime, nullable=False, index=True),
    Column("ended", UtcTime),
    _text("workflow_id"),
    *_figures(),
    *_problem(),
)

tasks = Table(
    "tasks",
    metadata,
    _session_id(),
    _text("machine_id", primary_key=True),
    _text("disk", primary_key=True),
    _text("machine_name"),
    _text("outcome"),
    _text("detail"),
    *_figures(),
    *_problem(),
)

session_events = Table(
    "session_events",
    metadata,
    _session_id(),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    _text("severity"),
    _text("text"),
)

restore_points = Table(
    "restore_points",
    metadata,
    _text("repository", primary_key=True),
    _text("point_id", primary_key=True),
    _text("chain"),
    _text("chain_id"),
    _bytes("number"),
    _text("file_id"),
    _text("file_name"),
    _bytes("generation"),
    _text("root"),
    _text("machine_id"),
    _text("machine_name"),
    _text("kind"),
    Column("created", UtcTime, nullable=False, index=True),
    Column("completed", UtcTime, nullable=False),
    _bytes("size_bytes"),
    _bytes("stored_bytes"),
    _text("session_id"),
    _text("state"),
    UniqueConstraint("repository", "chain_id", "number", name="uq_restore_points_place"),
    Index(None, "machine_id", "created"),
)

chain_marks = Table(
    "chain_marks",
    metadata,
    _text("repository", primary_key=True),
    _text("chain_id", primary_key=True),
    _bytes("number"),
    _text("point_id"),
    _text("file_id"),
    _bytes("generation"),
    _text("root"),
    Column("recorded", UtcTime, nullable=False),
)
