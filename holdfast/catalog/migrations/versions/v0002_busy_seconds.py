"""How long each stage of the data pipe was busy."""

from alembic import op
from sqlalchemy import Column, Double, text

revision = "0002"
down_revision = "0001"

_TABLES = ("sessions", "tasks")
_STAGES = ("source_s", "proxy_s", "network_s", "target_s", "throttled_s")


def upgrade() -> None:
    """Add the seconds; nothing is known of what ran before."""
    for table in _TABLES:
        for stage in _STAGES:
            op.add_column(table, Column(stage, Double, nullable=False, server_default=text("0")))
