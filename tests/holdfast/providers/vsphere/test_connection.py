"""A session outlives its expiry, and is opened only to the right server with the right password."""

import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.errors import AccessDenied, ConfigurationInvalid, ProviderUnavailable
from holdfast.providers.vsphere.connection import Connection, Endpoint
from tests.holdfast.providers.vsphere.bench import endpoint_of
from tests.lab.vcenter.client import Client
from workers.vcenter_lab import VCenterAddress

pytestmark = pytest.mark.vsphere


def endpoint(address: VCenterAddress, **changes: Any) -> Endpoint:
    return msgspec.structs.replace(endpoint_of(address), **changes)


def test_an_ended_session_is_renewed_by_the_next_call(address: VCenterAddress, vc: Client) -> None:
    with Connection(endpoint_of(address)) as connection:
        vc.control("POST", "/sessions/expire")
        connection.ensure_session()
        assert connection.logins == 2


def test_what_belongs_to_an_ended_session_is_begun_anew(address: VCenterAddress, vc: Client) -> None:
    with Connection(endpoint_of(address)) as connection:
        login = connection.logins
        vc.control("POST", "/sessions/expire")
        with pytest.raises(ProviderUnavailable, match="asking: the session had ended"):
            connection.call("asking", connection._instance.CurrentTime, of_login=login)
        connection.ensure_session()
        with pytest.raises(ProviderUnavailable, match="the session had ended"):
            connection.call("asking", lambda: pytest.fail("not called"), of_login=login)


@pytest.mark.parametrize("thumbprint", ["00" * 32, "FF:" * 31 + "FF"])
def test_another_certificate_than_the_pinned_one_is_refused(address: VCenterAddress, thumbprint: str) -> None:
    with pytest.raises(AccessDenied, match="pinned is"):
        Connection(endpoint(address, thumbprint=thumbprint))


@pytest.mark.parametrize("thumbprint", ["", "00", "zz" * 32, "0" * 40])
def test_a_thumbprint_that_is_none_is_refused(address: VCenterAddress, thumbprint: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="is no SHA-256"):
        Connection(endpoint(address, thumbprint=thumbprint))


def test_a_thumbprint_may_have_colons_and_capitals(address: VCenterAddress) -> None:
    digits = address.thumbprint_sha256.replace(":", "").upper()
    pairs = ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    Connection(endpoint(address, thumbprint=pairs)).close()


def test_an_unknown_certificate_is_refused_unless_its_ca_is_named(address: VCenterAddress, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="certificate"):
        Connection(endpoint(address, thumbprint=None))
    Connection(endpoint(address, thumbprint=None, ca_file=Path(address.certificate))).close()
    with pytest.raises(ConfigurationInvalid, match="cannot read the CA file"):
        Connection(endpoint(address, thumbprint=None, ca_file=tmp_path / "none.pem"))


def test_a_wrong_password_is_refused_and_not_tried_again(address: VCenterAddress, vc: Client) -> None:
    vc.control("DELETE", "/calls")
    with pytest.raises(AccessDenied) as caught:
        Connection(endpoint(address, password=lambda: "wrong"))
    assert not caught.value.retryable
    assert vc.control("GET", "/calls")["Login"] == 1


def test_the_password_is_asked_for_at_every_login(address: VCenterAddress, vc: Client) -> None:
    passwords = iter([address.password, "changed"])
    with Connection(endpoint(address, password=lambda: next(passwords))) as connection:
        vc.control("POST", "/sessions/expire")
        with pytest.raises(AccessDenied):
            connection.ensure_session()


def test_a_server_that_is_not_there_is_unavailable(address: VCenterAddress) -> None:
    with pytest.raises(ProviderUnavailable):
        Connection(endpoint(address, port=1, thumbprint=None))


def test_closing_twice_is_closing(address: VCenterAddress) -> None:
    connection = Connection(endpoint_of(address))
    connection.close()
    connection.close()


def test_messages_name_the_port_only_where_it_is_unusual(address: VCenterAddress) -> None:
    assert endpoint(address, port=443).label == "127.0.0.1"
    assert endpoint(address, port=8443).label == "127.0.0.1:8443"


def test_the_certificate_is_known_as_the_disk_library_wants_it(address: VCenterAddress) -> None:
    with Connection(endpoint_of(address)) as connection:
        assert connection.thumbprint_sha1 == address.thumbprint.replace(":", "").lower()


def test_another_host_is_trusted_by_the_word_of_the_server(address: VCenterAddress) -> None:
    port = endpoint_of(address).port
    with Connection(endpoint_of(address)) as connection:
        assert connection.tls_to("127.0.0.1", port, "") is connection.tls
        # The lab under another name stands for a host; both kinds of thumbprints are told by vCenters.
        for thumbprint in (address.thumbprint, address.thumbprint_sha256.upper()):
            told = connection.tls_to("localhost", port, thumbprint)
            with (
                socket.create_connection(("localhost", port), timeout=10) as plain,
                told.wrap_socket(plain, server_hostname="localhost") as encrypted,
            ):
                assert encrypted.getpeercert(binary_form=True)
        with pytest.raises(AccessDenied, match="pinned is"):
            connection.tls_to("localhost", port, "00" * 20)
        with pytest.raises(AccessDenied, match="sends to localhost and does not tell its certificate") as caught:
            connection.tls_to("localhost", port, "")
        assert "ca_file" in caught.value.hint


def test_another_host_is_checked_by_the_chain_where_the_server_is(address: VCenterAddress) -> None:
    with Connection(endpoint(address, thumbprint=None, ca_file=Path(address.certificate))) as connection:
        assert connection.tls_to("esx1.example.org", 443, "") is connection.tls
