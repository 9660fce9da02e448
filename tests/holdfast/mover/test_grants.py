"""A grant proves itself, and nothing else does."""

import errno
import os
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


def test_two_workers_that_start_at_once_have_the_same_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sync, others = tmp_path / "secret", os.fsync, list[bytes]()

    def overtaken(descriptor: int) -> None:
        """Let another worker start when the first one has written and not named its secret."""
        monkeypatch.setattr(os, "fsync", sync)
        assert not path.exists()
        others.append(load_secret(path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", overtaken)
    assert [load_secret(path)] == others
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_durable_before_it_has_its_name_and_so_is_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync = tmp_path / "secret", os.fsync
    synced: list[tuple[str, bool]] = []

    def noted(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(("folder" if what == tmp_path else what.read_bytes().hex(), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    secret = load_secret(path)
    assert synced == [(secret.hex(), False), ("folder", True)]


def test_nothing_stays_of_a_secret_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "secret"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreFailed, match="No space left"):
            load_secret(path)
    assert list(tmp_path.iterdir()) == []
    assert len(load_secret(path)) == SECRET_SIZE


def test_an_empty_secret_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch()
    with pytest.raises(StoreFailed, match="has 0 bytes") as caught:
        load_secret(path)
    assert "Remove it" in caught.value.hint


def test_a_secret_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"short")
    with pytest.raises(StoreFailed, match="has 5 bytes"):
        load_secret(path)
    with pytest.raises(StoreFailed, match="cannot be used"):
        load_secret(path / "below")
