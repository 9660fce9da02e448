"""A grant proves itself, and nothing else does."""

from pathlib import Path

import msgspec
import pytest

from holdfast.errors import LinkRefused, StoreFailed
from holdfast.mover.grants import SECRET_SIZE, Grant, Issuer, load_secret, new_salt, session_of

ISSUER = Issuer(b"s" * SECRET_SIZE)


def grant(**changes: object) -> Grant:
    fields = {"repository": "r", "chain": "c", "number": 1, "disk": "d", "expires_s": 100, "salt": new_salt()}
    return msgspec.convert(fields | changes, Grant)


def test_a_grant_that_was_issued_opens_until_it_expires() -> None:
    issued = grant()
    access = ISSUER.issue(issued)
    assert ISSUER.open(session_of(access), access.grant, 100.0) == issued
    with pytest.raises(LinkRefused, match="disk d has expired"):
        ISSUER.open(session_of(access), access.grant, 100.1)


def test_a_token_depends_on_the_session_and_on_the_secret() -> None:
    one, other = ISSUER.issue(grant()), ISSUER.issue(grant())
    assert len({one.token, other.token, Issuer(b"o" * SECRET_SIZE).token(session_of(one)).hex()}) == 3
    assert bytes.fromhex(one.token) == ISSUER.token(session_of(one))


def test_a_grant_that_was_changed_is_not_that_of_the_session() -> None:
    access = ISSUER.issue(grant())
    with pytest.raises(LinkRefused, match="not that of the session"):
        ISSUER.open(session_of(access), access.grant.replace('"number":1', '"number":2'), 0.0)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"x": 1}'])
def test_a_grant_that_makes_no_sense_is_refused(text: str) -> None:
    access = msgspec.structs.replace(ISSUER.issue(grant()), grant=text)
    with pytest.raises(LinkRefused, match="cannot be read"):
        ISSUER.open(session_of(access), text, 0.0)


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "secret"
    secret = load_secret(path)
    assert len(secret) == SECRET_SIZE
    assert load_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    with pytest.raises(StoreFailed, match="has 5 bytes"):
        load_secret(path)
    with pytest.raises(StoreFailed, match="cannot be used"):
        load_secret(path / "below")
