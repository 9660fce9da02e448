"""The doctor looks at the certificate of data movers as another mover would, and ahead of it."""

from datetime import datetime, timedelta

import pytest

from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationInvalid
from holdfast.mover.certificates import CERTIFICATE_LASTS, Authority, Pair
from tests.workers.cli.place import Place
from workers.cli.certificate_checks import CHECK, ENDS_SOON, check_certificate
from workers.cli.checks import Finding, Level
from workers.cli.invocation import Flags, Invocation

NOW = SystemClock().now()
HOST = "10.0.0.5"
TABLE = '[mover]\nca_file = "ca.pem"\ncertificate = "repo-a.pem"\nkey = "repo-a.key"\n'


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new(NOW - timedelta(days=1000))


def stored(place: Place, authority: Authority, pair: Pair, mover: str = f"{HOST}:9000") -> None:
    """Give the place a certificate, and its repository a mover."""
    (place.root / "ca.pem").write_bytes(authority.pair.certificate)
    (place.root / "repo-a.pem").write_bytes(pair.certificate)
    key = place.root / "repo-a.key"
    key.touch(0o600)
    key.write_bytes(pair.key)
    text = place.config.read_text().replace("[[providers]]", f"{TABLE}[[providers]]", 1)
    place.config.write_text(text.replace('path = "repository"', f'path = "repository"\nmover = "{mover}"'))


def found(place: Place) -> list[Finding]:
    return list(check_certificate(Invocation(Flags(config=place.config))))


def made_at(days_ago: float) -> datetime:
    return NOW - timedelta(days=days_ago)


def test_without_certificates_there_is_nothing_to_say(place: Place) -> None:
    assert found(place) == []


def test_a_good_certificate_is_well(place: Place, authority: Authority) -> None:
    stored(place, authority, authority.issue("repo-a", [HOST], NOW))
    (finding,) = found(place)
    assert (finding.check, finding.level) == (CHECK, Level.OK)
    assert finding.text == f"{place.root}/repo-a.pem, until {NOW + CERTIFICATE_LASTS:%Y-%m-%d}"


def test_the_doctor_tells_of_it(place: Place, authority: Authority) -> None:
    stored(place, authority, authority.issue("repo-a", [HOST], NOW))
    assert f"ok    {CHECK}" in place.run("doctor").stdout


def test_a_certificate_that_ends_soon_is_a_warning(place: Place, authority: Authority) -> None:
    made = NOW - CERTIFICATE_LASTS + ENDS_SOON - timedelta(days=1)
    stored(place, authority, authority.issue("repo-a", [HOST], made))
    (finding,) = found(place)
    assert (finding.level, "repo-a.pem ends on" in finding.text) == (Level.WARN, True)
    assert "holdfast certs repo-a --renew" in finding.hint


@pytest.mark.parametrize("made, told", [(made_at(900), "ended on"), (made_at(-2), "is good from")])
def test_a_certificate_out_of_its_time_fails(place: Place, authority: Authority, made: datetime, told: str) -> None:
    stored(place, authority, authority.issue("repo-a", [HOST], made))
    (finding,) = found(place)
    assert (finding.level, told in finding.text) == (Level.FAIL, True)


def test_the_key_of_another_certificate_fails(place: Place, authority: Authority) -> None:
    pair = Pair(certificate=authority.issue("a", [HOST], NOW).certificate, key=authority.issue("a", [HOST], NOW).key)
    stored(place, authority, pair)
    (finding,) = found(place)
    assert (finding.level, finding.code) == (Level.FAIL, ConfigurationInvalid.code)
    assert finding.text == f"{place.root}/repo-a.key is not the key of {place.root}/repo-a.pem"


def test_a_certificate_of_another_authority_fails(place: Place, authority: Authority) -> None:
    stored(place, authority, Authority.new(NOW).issue("repo-a", [HOST], NOW))
    (finding,) = found(place)
    assert (finding.level, finding.code) == (Level.FAIL, ConfigurationInvalid.code)
    assert f"is not accepted by the authority in {place.root}/ca.pem" in finding.text


@pytest.mark.parametrize("name", ["ca.pem", "repo-a.pem", "repo-a.key"])
def test_a_file_that_is_not_there_or_is_no_certificate_fails(place: Place, authority: Authority, name: str) -> None:
    stored(place, authority, authority.issue("repo-a", [HOST], NOW))
    (place.root / name).write_bytes(b"nothing")
    (finding,) = found(place)
    assert (finding.level, "cannot be used" in finding.text) == (Level.FAIL, True)
    (place.root / name).unlink()
    (finding,) = found(place)
    assert (finding.level, "cannot be used" in finding.text) == (Level.FAIL, True)


def test_a_key_that_others_can_read_is_a_warning(place: Place, authority: Authority) -> None:
    stored(place, authority, authority.issue("repo-a", [HOST], NOW))
    (place.root / "repo-a.key").chmod(0o640)
    good, finding = found(place)
    assert (good.level, finding.level) == (Level.OK, Level.WARN)
    assert "may be read by others" in finding.text


def test_an_address_that_the_certificate_does_not_name_is_a_warning(place: Place, authority: Authority) -> None:
    stored(place, authority, authority.issue("repo-a", ["repo-a.example"], NOW))
    good, finding = found(place)
    assert (good.level, finding.level, finding.check) == (Level.OK, Level.WARN, "repository main")
    assert f"does not name {HOST}" in finding.text
    assert f"holdfast certs repo-a --renew --address repo-a.example --address {HOST}" in finding.hint


def test_movers_of_other_hosts_and_of_loopback_need_no_name(place: Place, authority: Authority) -> None:
    pair = authority.issue("proxy-a", ["proxy-a"], NOW)
    stored(place, authority, pair, mover="127.0.0.1:9000")
    assert [finding.level for finding in found(place)] == [Level.OK]
    text = place.config.read_text().replace("127.0.0.1:9000", f"{HOST}:9000")
    place.config.write_text(text.replace('path = "repository"', 'path = "elsewhere"'))
    assert [finding.level for finding in found(place)] == [Level.OK]
