"""Names survive vSphere's escapes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.providers.vsphere.names import completed_name, escaped_name, plain_name


@pytest.mark.parametrize(
    "plain, escaped",
    [("web", "web"), ("a/b", "a%2fb"), ("a\\b", "a%5cb"), ("100%", "100%25"), ("%2f", "%252f"), ("é ü", "é ü")],
)
def test_three_characters_are_escaped(plain: str, escaped: str) -> None:
    assert escaped_name(plain) == escaped
    assert plain_name(escaped) == plain


@pytest.mark.parametrize(
    "written, kept",
    [("a%2fb", "a%2fb"), ("100%", "100%25"), ("50% a%2Fb", "50%25 a%2Fb"), ("a/b\\%25", "a%2fb%5c%25"), ("%2", "%252")],
)
def test_what_is_no_escape_yet_becomes_one(written: str, kept: str) -> None:
    assert completed_name(written) == kept
    assert completed_name(kept) == kept


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="%25cf/\\"))
def test_every_name_comes_back(name: str) -> None:
    assert plain_name(escaped_name(name)) == name
