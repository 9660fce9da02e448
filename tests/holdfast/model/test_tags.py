"""Tags name the session that made a thing, and nothing else does."""

from holdfast.model.ids import SessionId
from holdfast.model.tags import is_self_test, self_test_tag, session_of, session_tag


def test_a_session_is_read_back_from_its_tag() -> None:
    for text in ("s1", "20261121T100000Z-ab12cd", "holdfast-", "a b"):
        assert session_of(session_tag(SessionId(text))) == text


def test_other_tags_name_no_session() -> None:
    for tag in ("", "holdfast-", "somebody else's", "s1", "Holdfast-s1", self_test_tag("ab")):
        assert session_of(tag) is None


def test_a_self_test_is_known_by_its_tag() -> None:
    assert is_self_test(self_test_tag("ab"))
    assert not is_self_test(session_tag(SessionId("s1")))
