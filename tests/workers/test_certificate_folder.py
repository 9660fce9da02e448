"""An operator's folder of certificates: made once, never overwritten, renewed aside."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typing_extensions import override

from holdfast.clock import SystemClock
from holdfast.errors import ConfigurationInvalid, HoldfastError, RequestInvalid
from holdfast.mover.certificates import AUTHORITY_LASTS
from holdfast.storage.files.atomic import HostFiles
from workers.certificate_folder import CertificateFolder, Issued


class StoppedClock(SystemClock):
    """Shows the moment that a test sets."""

    def __init__(self) -> None:
        self.moment = datetime(2030, 5, 6, 7, 8, 9, tzinfo=UTC)

    @override
    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def place(tmp_path: Path, clock: StoppedClock) -> CertificateFolder:
    return CertificateFolder(tmp_path / "safe" / "certs", HostFiles(), clock)


def make(place: CertificateFolder, *names: str, addresses: tuple[str, ...] = (), renew: bool = False) -> list[Issued]:
    place.authority()
    return [place.carry_out(order) for order in place.planned(names, addresses, renew=renew)]


def contents(place: CertificateFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.folder.iterdir()}


def test_files_are_for_their_owner_alone(place: CertificateFolder) -> None:
    make(place, "repo-a")
    assert sorted(contents(place)) == ["ca.key", "ca.pem", "repo-a.key", "repo-a.pem"]
    assert {path.stat().st_mode & 0o777 for path in place.folder.iterdir()} == {0o600}
    assert place.folder.stat().st_mode & 0o777 == 0o700


def test_the_authority_is_made_once(place: CertificateFolder) -> None:
    assert not place.has_authority()
    first = place.authority()
    assert place.has_authority()
    assert place.authority().pair == first.pair


def test_half_an_authority_is_not_made_whole(place: CertificateFolder) -> None:
    place.authority()
    (place.folder / "ca.key").unlink()
    with pytest.raises(ConfigurationInvalid, match="only one is there"):
        place.authority()


def test_a_damaged_authority_is_named_with_its_folder(place: CertificateFolder) -> None:
    place.authority()
    (place.folder / "ca.key").write_bytes(b"")
    with pytest.raises(ConfigurationInvalid, match=f"{place.folder}: the authority's key is no private key"):
        place.authority()


def test_without_addresses_a_certificate_is_for_its_name(place: CertificateFolder) -> None:
    both = make(place, "proxy-a", "proxy-b")
    assert [one.facts.addresses for one in both] == [("proxy-a",), ("proxy-b",)]


def test_nothing_is_overwritten(place: CertificateFolder) -> None:
    make(place, "repo-a")
    before = contents(place)
    with pytest.raises(RequestInvalid, match=r"repo-a\.pem is there already") as caught:
        place.planned(["new", "repo-a"], (), renew=False)
    assert "--renew" in caught.value.hint
    assert contents(place) == before


def test_a_key_alone_is_in_the_way_too(place: CertificateFolder) -> None:
    make(place, "repo-a")
    (place.folder / "repo-a.pem").unlink()
    with pytest.raises(RequestInvalid, match=r"repo-a\.key is there already"):
        place.planned(["repo-a"], (), renew=False)
    (renewed,) = make(place, "repo-a", renew=True)
    assert (renewed.facts.addresses, len(renewed.kept_as)) == (("repo-a",), 1)


def test_what_is_renewed_keeps_its_addresses_and_the_old_one_is_kept(
    place: CertificateFolder, clock: StoppedClock
) -> None:
    (old,) = make(place, "repo-a", addresses=("10.0.0.5", "repo-a.example"))
    before = contents(place)
    clock.moment += timedelta(days=700)
    (new,) = make(place, "repo-a", renew=True)
    assert new.facts.addresses == old.facts.addresses
    assert new.facts.ends_at == old.facts.ends_at + timedelta(days=700)
    assert [path.name for path in new.kept_as] == [
        "repo-a-until-20320405T070809Z.pem",
        "repo-a-until-20320405T070809Z.key",
    ]
    assert [path.read_bytes() for path in new.kept_as] == [before["repo-a.pem"], before["repo-a.key"]]
    assert (place.folder / "repo-a.key").read_bytes() != before["repo-a.key"]


def test_what_is_renewed_may_get_other_addresses(place: CertificateFolder) -> None:
    make(place, "repo-a", addresses=("10.0.0.5",))
    (new,) = make(place, "repo-a", addresses=("10.0.0.6",), renew=True)
    assert new.facts.addresses == ("10.0.0.6",)


def test_two_renewals_at_the_same_moment_are_refused(place: CertificateFolder) -> None:
    make(place, "repo-a")
    make(place, "repo-a", renew=True)
    before = contents(place)
    with pytest.raises(RequestInvalid, match="is there already"):
        place.planned(["repo-a"], (), renew=True)
    assert contents(place) == before


def test_what_was_never_made_cannot_be_renewed(place: CertificateFolder) -> None:
    with pytest.raises(RequestInvalid, match=r"repo-a\.pem is not there to be renewed"):
        place.planned(["repo-a"], (), renew=True)


def test_a_damaged_certificate_is_renewed_when_its_addresses_are_told(place: CertificateFolder) -> None:
    make(place, "repo-a")
    (place.folder / "repo-a.pem").write_bytes(b"nothing")
    with pytest.raises(ConfigurationInvalid, match=r"repo-a\.pem: there is no certificate") as caught:
        place.planned(["repo-a"], (), renew=True)
    assert "--address" in caught.value.hint
    assert make(place, "repo-a", addresses=("a",), renew=True)


@pytest.mark.parametrize(
    "names, addresses, told",
    [
        (["a/b"], (), "'a/b' cannot be the name of a certificate"),
        ([".."], (), "'..' cannot be the name"),
        (["ca"], (), "ca is the name of the authority"),
        (["CA"], (), "CA is the name of the authority"),
        (["a", "a"], (), "a is named twice"),
        (["a", "b"], ("10.0.0.1",), "one address cannot be that of 2 workers"),
        (["a"], ("10.0.0.1:9000",), "'10.0.0.1:9000' is no host name and no IP address"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    place: CertificateFolder, names: list[str], addresses: tuple[str, ...], told: str
) -> None:
    with pytest.raises(RequestInvalid, match=told):
        place.planned(names, addresses, renew=False)
    assert not place.folder.exists()


def test_an_authority_that_ended_leaves_the_old_files_in_place(place: CertificateFolder, clock: StoppedClock) -> None:
    make(place, "repo-a")
    before = contents(place)
    clock.moment += AUTHORITY_LASTS
    with pytest.raises(HoldfastError, match="the authority ended"):
        make(place, "repo-a", renew=True)
    assert contents(place) == before
