"""A mover finds out alone what others would say of its certificate."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationInvalid
from holdfast.mover.certificates import Authority, Pair
from holdfast.mover.rehearsal import objection
from holdfast.mover.sockets import Identity

NOW = SystemClock().now()


@pytest.fixture
def authority() -> Authority:
    return Authority.new(NOW)


@pytest.fixture
def stored(tmp_path: Path, authority: Authority) -> Callable[[Pair], Identity]:
    """Returns the identity of a mover that trusts the authority."""

    def store(pair: Pair) -> Identity:
        found = Identity(ca_file=tmp_path / "ca.pem", certificate=tmp_path / "a.pem", key=tmp_path / "a.key")
        found.ca_file.write_bytes(authority.pair.certificate)
        found.certificate.write_bytes(pair.certificate)
        found.key.write_bytes(pair.key)
        return found

    return store


def test_a_good_certificate_meets_no_objection(stored: Callable[[Pair], Identity], authority: Authority) -> None:
    found = stored(authority.issue("a", ["10.0.0.5", "fd00::1", "a.example"], NOW))
    assert [objection(found, host) for host in (None, "10.0.0.5", "fd00::1", "A.example")] == [None] * 4


def test_a_name_that_it_does_not_have_is_an_objection(stored: Callable[[Pair], Identity], authority: Authority) -> None:
    found = stored(authority.issue("a", ["10.0.0.5", "a.example"], NOW))
    assert "mismatch" in str(objection(found, "10.0.0.6"))
    assert "mismatch" in str(objection(found, "b.example"))


def test_another_authority_is_an_objection(stored: Callable[[Pair], Identity]) -> None:
    assert "issuer" in str(objection(stored(Authority.new(NOW).issue("a", ["a"], NOW))))


def test_an_old_certificate_is_an_objection(stored: Callable[[Pair], Identity], authority: Authority) -> None:
    assert "expired" in str(objection(stored(authority.issue("a", ["a"], NOW - timedelta(days=1000)))))


def test_two_authorities_may_be_trusted_at_once(stored: Callable[[Pair], Identity], authority: Authority) -> None:
    other = Authority.new(NOW)
    found = stored(other.issue("a", ["a"], NOW))
    found.ca_file.write_bytes(authority.pair.certificate + other.pair.certificate)
    assert objection(found) is None


def test_files_that_cannot_be_used_are_an_error(stored: Callable[[Pair], Identity], authority: Authority) -> None:
    found = stored(authority.issue("a", ["a"], NOW))
    found.key.write_bytes(authority.pair.key)
    with pytest.raises(ConfigurationInvalid, match="cannot be used"):
        objection(found)
