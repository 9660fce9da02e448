"""What was said about a session while it ran."""

from datetime import datetime
from enum import StrEnum

import msgspec

from holdfast.model.ids import SessionId


class Severity(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    """A degraded choice, such as a full read instead of changed blocks."""
    ERROR = "error"


class SessionEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence about a session; ``sequence`` counts from 0 inside the session."""

    session_id: SessionId
    sequence: int
    time: datetime
    severity: Severity
    text: str
