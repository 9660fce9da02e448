"""Machines are found by their tags, over the API of this vCenter or of an older one."""

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from holdfast.errors import AccessDenied, ProviderUnavailable, RequestInvalid
from holdfast.providers.vsphere import tags
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.tags import Tags
from tests.holdfast.providers.vsphere.accounts import PASSWORD, USER, account_with
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import Client

pytestmark = pytest.mark.vsphere

MIB = 1 << 20


class Operator:
    """Makes tags and attaches them, as people do in the vSphere Client."""

    def __init__(self, client: Client) -> None:
        address = client.address
        parts = urlsplit(address.url)
        self._http = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=client.tls, timeout=30)
        pair = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {pair}"}
        self._headers = {"vmware-api-session-id": self._send("POST", "/api/session")}
        self._categories: dict[str, str] = {}

    def tag(self, category: str, name: str, *machines: Any, kind: str = "VirtualMachine") -> None:
        root = "/api/cis/tagging"
        if category not in self._categories:
            spec = {"name": category, "description": "", "cardinality": "MULTIPLE", "associable_types": []}
            self._categories[category] = self._send("POST", f"{root}/category", spec)
        spec = {"name": name, "description": "", "category_id": self._categories[category]}
        tag = self._send("POST", f"{root}/tag", spec)
        for machine in machines:
            target = {"object_id": {"type": kind, "id": machine._moId}}
            self._send("POST", f"{root}/tag-association/{tag}?action=attach", target)

    def close(self) -> None:
        for tag in self._send("GET", "/api/cis/tagging/tag"):
            self._send("DELETE", f"/api/cis/tagging/tag/{tag}")
        for category in self._categories.values():
            self._send("DELETE", f"/api/cis/tagging/category/{category}")
        self.leave()

    def leave(self) -> None:
        """Log out; the tags stay."""
        self._send("DELETE", "/api/session")
        self._http.close()

    def _send(self, method: str, path: str, body: object = None) -> Any:
        self._http.request(method, path, json.dumps(body) if body is not None else None, self._headers)
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.status < http.client.BAD_REQUEST, (method, path, answer.status, text)
        return json.loads(text) if text else None


@pytest.fixture
def operator(vc: Client) -> Iterator[Operator]:
    operator = Operator(vc)
    yield operator
    operator.close()


@pytest.fixture(params=["the API of today", "the former API"])
def connection(
    bench: VSphereBench, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Connection]:
    """A session of a vCenter, and of one that does not answer below ``/api``."""
    if request.param == "the former API":
        monkeypatch.setattr(tags, "_LOGIN", "/api-of-later-versions/session")
    with Connection(bench.settings.endpoint) as connection:
        yield connection


@pytest.fixture
def machines(bench: VSphereBench) -> list[Any]:
    return [bench.vm(bench.make_machine(name, [MIB]).machine_id) for name in ("a", "b", "c")]


def found(connection: Connection, name: str) -> set[str]:
    return {machine.name for machine in Tags(connection).machines_with(name)}


def test_the_machines_of_a_tag_are_found_with_and_without_its_category(
    connection: Connection, operator: Operator, machines: list[Any]
) -> None:
    operator.tag("protection", "gold", machines[0], machines[2])
    operator.tag("protection", "silver", machines[1])
    operator.tag("protection", "bronze")
    assert found(connection, "protection/gold") == found(connection, "gold") == {"a", "c"}
    assert found(connection, "silver") == {"b"}
    assert found(connection, "bronze") == set()


def test_a_name_in_two_categories_needs_its_category(
    connection: Connection, operator: Operator, machines: list[Any]
) -> None:
    operator.tag("protection", "gold", machines[0])
    operator.tag("support", "gold", machines[1])
    with pytest.raises(RequestInvalid, match="has 2 tag 'gold'") as caught:
        found(connection, "gold")
    assert caught.value.hint == "Name it with its category: `tag:CATEGORY/TAG`."
    assert found(connection, "protection/gold") == {"a"}
    assert found(connection, "support/gold") == {"b"}


@pytest.mark.parametrize("name", ["silver", "support/gold", "Gold", "/gold", ""])
def test_an_unknown_tag_is_refused(connection: Connection, operator: Operator, machines: list[Any], name: str) -> None:
    operator.tag("protection", "gold", machines[0])
    with pytest.raises(RequestInvalid, match=f"has no tag '{name}'"):
        found(connection, name)


@pytest.mark.parametrize(
    "category, tag", [("schütz 100%", "gold & silver?"), ("a/b", "c/d"), ("protection", "%2f #1"), ("x y", "ü/+\\")]
)
def test_names_may_have_any_characters(
    connection: Connection, operator: Operator, machines: list[Any], category: str, tag: str
) -> None:
    operator.tag(category, tag, machines[1])
    assert found(connection, f"{category}/{tag}") == found(connection, tag) == {"b"}


def test_what_is_no_machine_is_left_out(
    connection: Connection, operator: Operator, machines: list[Any], vc: Client
) -> None:
    operator.tag("protection", "gold", machines[0])
    operator.tag("protection", "place", vc.content.rootFolder, kind="Folder")
    assert found(connection, "place") == set()


def test_a_vcenter_without_tags_has_none(connection: Connection) -> None:
    with pytest.raises(RequestInvalid, match="has no tag 'gold'"):
        found(connection, "gold")


def test_a_wrong_password_is_refused(bench: VSphereBench, connection: Connection) -> None:
    wrong = msgspec.structs.replace(bench.settings.endpoint, password=lambda: "wrong")
    connection.endpoint = wrong
    with pytest.raises(AccessDenied, match="to read tags: the login was refused"):
        found(connection, "gold")


def test_an_account_that_may_not_read_tags_is_refused_with_the_privilege(bench: VSphereBench, vc: Client) -> None:
    vc.control("POST", "/users", {"name": USER, "password": PASSWORD})
    with Connection(bench.settings.endpoint) as connection:
        connection.endpoint = msgspec.structs.replace(connection.endpoint, user=USER, password=lambda: PASSWORD)
        with pytest.raises(AccessDenied, match=f"reading tag: the server answers 403, account {USER}") as caught:
            found(connection, "gold")
        assert "System.Read" in (caught.value.hint or "")
        with account_with(vc, ["Datastore.Browse"]), pytest.raises(RequestInvalid, match="no tag"):
            found(connection, "gold")


def test_a_server_without_either_api_is_unavailable(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOGIN", "_FORMER_LOGIN"):
        monkeypatch.setattr(tags, name, "/nothing")
    with pytest.raises(ProviderUnavailable, match="logging in to read tags: the server answers 404"):
        found(connection, "gold")
