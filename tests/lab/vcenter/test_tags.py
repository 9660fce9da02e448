"""Tags over the REST API, and custom attributes."""

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.lab.vcenter.client import Client, vim

pytestmark = pytest.mark.vsphere


class Rest:
    """A session of the REST API under /api."""

    def __init__(self, vc: Client, user: str | None = None, password: str | None = None) -> None:
        self.vc, self.token = vc, ""
        address = vc.address
        pair = f"{user or address.user}:{password or address.password}"
        basic = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        self.status, self.token = self.send("POST", "/api/session", headers=basic)

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        parts = urlsplit(self.vc.address.url)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=self.vc.tls, timeout=30)
        try:
            all_headers = {"vmware-api-session-id": str(self.token), "Content-Type": "application/json"} | (
                headers or {}
            )
            connection.request(method, path, None if body is None else json.dumps(body), all_headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def tagging(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return self.send(method, f"/api/cis/tagging/{path}", body)


@pytest.fixture
def rest(vc: Client) -> Iterator[Rest]:
    session = Rest(vc)
    assert session.status == 201
    yield session
    assert session.send("DELETE", "/api/session") == (204, None)
    assert session.tagging("GET", "category")[0] == 401


def test_a_login_needs_the_password(vc: Client) -> None:
    refused = Rest(vc, password="wrong")
    assert refused.status == 401
    assert refused.tagging("GET", "category")[0] == 401


def test_sessions_of_the_rest_api_end_with_the_others(vc: Client) -> None:
    session = Rest(vc)
    assert session.tagging("GET", "tag") == (200, [])
    vc.control("POST", "/sessions/expire")
    assert session.tagging("GET", "tag")[0] == 401


def test_a_machine_is_tagged_and_found_by_its_tag(vc: Client, rest: Rest) -> None:
    vm = vc.machine("DC0_H0_VM0")
    wanted = {"name": "Protection", "description": "", "cardinality": "SINGLE", "associable_types": ["VirtualMachine"]}
    status, category = rest.tagging("POST", "category", wanted)
    assert status == 201
    assert rest.tagging("GET", "category") == (200, [category])
    assert rest.tagging("GET", f"category/{category}")[1]["name"] == "Protection"
    assert rest.tagging("POST", "category", wanted)[0] == 400

    status, tag = rest.tagging("POST", "tag", {"name": "Gold", "description": "", "category_id": category})
    assert status == 201
    assert rest.tagging("POST", "tag?action=list-tags-for-category", {"category_id": category}) == (200, [tag])
    assert rest.tagging("PATCH", f"tag/{tag}", {"description": "hourly"}) == (204, None)
    assert rest.tagging("GET", f"tag/{tag}")[1]["description"] == "hourly"

    target = {"object_id": {"type": "VirtualMachine", "id": vm._moId}}
    assert rest.tagging("POST", f"tag-association/{tag}?action=attach", target) == (204, None)
    assert rest.tagging("POST", "tag-association?action=list-attached-tags", target) == (200, [tag])
    expected = [{"object_id": target["object_id"], "tag_ids": [tag]}]
    many = {"object_ids": [target["object_id"]]}
    assert rest.tagging("POST", "tag-association?action=list-attached-tags-on-objects", many) == (200, expected)
    attached = rest.tagging("POST", f"tag-association/{tag}?action=list-attached-objects")
    assert attached == (200, [target["object_id"]])
    assert rest.tagging("POST", f"tag-association/{tag}?action=detach", target) == (204, None)
    assert rest.tagging("POST", "tag-association?action=list-attached-tags", target) == (200, [])

    assert rest.tagging("DELETE", f"tag/{tag}") == (204, None)
    assert rest.tagging("GET", f"tag/{tag}")[0] == 404
    assert rest.tagging("DELETE", f"category/{category}") == (204, None)


def test_the_former_api_answers_too(vc: Client) -> None:
    rest = Rest(vc)
    status, answer = rest.send("GET", "/rest/com/vmware/cis/tagging/tag")
    assert (status, answer) == (200, {"value": []}) or answer == {"value": None}
    assert rest.send("GET", "/api/cis/tagging/nothing")[0] == 404


def test_custom_attributes_are_defined_set_and_read(vc: Client) -> None:
    vm, manager = vc.machine("DC0_H0_VM1"), vc.content.customFieldsManager
    field = manager.AddCustomFieldDef(name="Last backup", moType=vim.VirtualMachine)
    manager.SetField(entity=vm, key=field.key, value="today")
    assert {v.key: v.value for v in vm.customValue}[field.key] == "today"
    assert field.key in [f.key for f in vm.availableField]
    with pytest.raises(vim.fault.DuplicateName):
        manager.AddCustomFieldDef(name="Last backup", moType=vim.VirtualMachine)
