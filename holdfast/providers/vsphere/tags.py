"""Machines by their tags. Tags are not in the API that pyVmomi speaks, but in the vCenter's own over HTTPS.

Versions from 7 answer below ``/api``; what does not is asked below ``/rest``, where older ones answer.
"""

import base64
import http.client
import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from pyVmomi import vim

from holdfast.errors import AccessDenied, ProviderUnavailable, RequestInvalid
from holdfast.providers.vsphere.connection import Connection
from holdfast.providers.vsphere.faults import translated

_TIMEOUT_S: Final = 60.0
_SESSION: Final = "vmware-api-session-id"
_JSON: Final = {"Content-Type": "application/json"}
_LOGIN: Final = "/api/session"
_FORMER_LOGIN: Final = "/rest/com/vmware/cis/session"
_REFUSED: Final = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
_PRIVILEGE_HINT: Final = "Give the account the privilege System.Read on tags and categories, by a global permission."


class Tags:
    """Asks for tags; each question has a session of its own, which is ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def machines_with(self, name: str) -> Iterator[Any]:
        """Yield the managed objects of the machines with a tag, named ``category/tag``, or ``tag`` when that is enough.

        Raises `RequestInvalid` when there is no such tag, or several; `AccessDenied` to who may not read them.
        """
        with _Rest(self._connection) as rest:
            found = [one for one in rest.tags() if _is_called(name, one, rest)]
            if len(found) != 1:
                label = self._connection.endpoint.label
                raise RequestInvalid(
                    f"{label} has {len(found) or 'no'} tag {name!r}",
                    hint="Name it with its category: `tag:CATEGORY/TAG`.",
                )
            attached = rest.attached(found[0]["id"])
        for one in attached:
            if one["type"] == "VirtualMachine":
                yield self._connection.reference(vim.VirtualMachine, one["id"])


def _is_called(name: str, tag: dict[str, Any], rest: "_Rest") -> bool:
    """Return whether a name means a tag. Categories and tags may have slashes in their own names."""
    own = tag["name"]
    return name == own or (name.endswith(f"/{own}") and name == f"{rest.category(tag)}/{own}")


class _Rest:
    """One session of the vCenter's own API."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        endpoint = connection.endpoint
        self._http = http.client.HTTPSConnection(
            endpoint.host, endpoint.port, timeout=_TIMEOUT_S, context=connection.tls
        )
        self._is_old = False
        self._headers: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._login()
        except BaseException:
            self._http.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", _FORMER_LOGIN if self._is_old else _LOGIN, self._headers)
        except ProviderUnavailable:
            pass  # the session ends by itself
        finally:
            self._http.close()

    def _login(self) -> None:
        endpoint = self._connection.endpoint
        secret = base64.b64encode(f"{endpoint.user}:{endpoint.password()}".encode()).decode()
        login = {"Authorization": f"Basic {secret}"}
        status, body = self._ask("POST", _LOGIN, login)
        if status == http.client.NOT_FOUND:
            self._is_old = True
            status, body = self._ask("POST", _FORMER_LOGIN, login)
        if status in _REFUSED:
            raise AccessDenied(f"{endpoint.label}: logging in as {endpoint.user} to read tags: the login was refused")
        self._headers = {_SESSION: str(self._value(status, body, "logging in to read tags"))}

    def tags(self) -> Iterator[dict[str, Any]]:
        """Yield every tag."""
        for identity in self._get("tag") or ():
            yield self._get(f"tag/id:{quote(identity)}" if self._is_old else f"tag/{quote(identity)}")

    def category(self, tag: dict[str, Any]) -> str:
        """Return the name of a tag's category."""
        identity = quote(tag["category_id"])
        found: dict[str, Any] = self._get(f"category/id:{identity}" if self._is_old else f"category/{identity}")
        return str(found["name"])

    def attached(self, tag_id: str) -> list[dict[str, str]]:
        """Return the objects that have a tag, each with ``id`` and ``type``."""
        action = "list-attached-objects"
        if self._is_old:
            # The former API wants a body, also of a question without parameters.
            place, asked = f"/rest/com/vmware/cis/tagging/tag-association/id:{quote(tag_id)}?~action={action}", b"{}"
        else:
            place, asked = f"/api/cis/tagging/tag-association/{quote(tag_id)}?action={action}", None
        status, body = self._ask("POST", place, self._headers | _JSON, asked)
        objects: list[dict[str, str]] | None = self._value(status, body, "listing the objects of a tag")
        return objects or []

    def _get(self, what: str) -> Any:
        root = "/rest/com/vmware/cis/tagging" if self._is_old else "/api/cis/tagging"
        status, body = self._ask("GET", f"{root}/{what}", self._headers)
        return self._value(status, body, f"reading {what.partition('/')[0]}")

    def _value(self, status: int, body: bytes, what: str) -> Any:
        label = self._connection.endpoint.label
        if status in _REFUSED:
            raise AccessDenied(
                f"{label}: {what}: the server answers {status}, account {self._connection.endpoint.user}",
                hint=_PRIVILEGE_HINT,
            )
        if status not in {http.client.OK, http.client.CREATED}:
            raise ProviderUnavailable(f"{label}: {what}: the server answers {status}")
        try:
            value = json.loads(body)
        except ValueError as error:
            raise ProviderUnavailable(f"{label}: {what}: the answer is no JSON") from error
        return value["value"] if self._is_old and isinstance(value, dict) and "value" in value else value

    def _ask(self, method: str, place: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, bytes]:
        with translated(f"{self._connection.endpoint.label}: reading tags"):
            self._http.request(method, place, body, headers)
            answer = self._http.getresponse()
            return answer.status, answer.read()
