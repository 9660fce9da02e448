"""Column types that hold the same values on SQLite and PostgreSQL.

Migrations use these types too: a type may be added here, but what an existing one stores never
changes.
"""

from datetime import UTC, datetime

from sqlalchemy import DateTime, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine
from typing_extensions import override

_ISO_LENGTH = len("2000-01-01T00:00:00.000000+00:00")


def storable(text: str) -> str:
    """Return ``text`` with what a database refuses written as escapes: NUL and lone surrogates.

    Names of files and messages of other programs may hold both, and a failure must not be lost
    because of its text.
    """
    return str(text).replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


class PlainText(TypeDecorator[str]):
    """Text of any length, made `storable` on its way in."""

    impl = Text
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


class UtcTime(TypeDecorator[datetime]):
    """A moment to the microsecond; takes any zone and gives UTC.

    SQLite has no such type and keeps ISO text of one length, which sorts like the time it stands
    for.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str] | TypeEngine[datetime]:
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(_ISO_LENGTH))
        return dialect.type_descriptor(DateTime(timezone=True))

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a moment without a zone is no moment"
        moment = value.astimezone(UTC)
        return moment.isoformat(timespec="microseconds") if dialect.name == "sqlite" else moment

    @override
    def process_result_value(self, value: object, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return datetime.fromisoformat(str(value))
