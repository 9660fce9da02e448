"""Tags: by what snapshots and restore targets are known again, by us and by whoever cleans up after us."""

from typing import Final

from holdfast.model.ids import SessionId

_OURS: Final = "holdfast-"
_SELF_TEST: Final = "holdfast-doctor-"


def session_tag(session_id: SessionId) -> str:
    """Return the tag that everything a session creates at a provider carries."""
    return f"{_OURS}{session_id}"


def self_test_tag(token: str) -> str:
    """Return the tag of the snapshot of one self-test, which belongs to no session."""
    return f"{_SELF_TEST}{token}"


def is_self_test(tag: str) -> bool:
    """Return whether a tag is that of a self-test."""
    return tag.startswith(_SELF_TEST)


def session_of(tag: str) -> SessionId | None:
    """Return the session that a tag names, or None."""
    if not tag.startswith(_OURS) or is_self_test(tag) or tag == _OURS:
        return None
    return SessionId(tag.removeprefix(_OURS))
