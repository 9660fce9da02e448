"""Accounts of the lab vCenter with a role of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.lab.vcenter.client import Client, vim

USER = "backup@vsphere.local"
PASSWORD = "secret"
_PRINCIPAL = "VSPHERE.LOCAL\\backup"


@contextmanager
def account_with(admin: Client, privileges: list[str], on: Any = None) -> Iterator[None]:
    """Let the account `USER` have a role of these privileges on an object, by default on everything."""
    manager, entity = admin.content.authorizationManager, on or admin.content.rootFolder
    admin.control("POST", "/users", {"name": USER, "password": PASSWORD})
    role = manager.AddAuthorizationRole(name="Backup", privIds=privileges)
    permission = vim.AuthorizationManager.Permission(principal=_PRINCIPAL, group=False, roleId=role, propagate=True)
    manager.SetEntityPermissions(entity=entity, permission=[permission])
    try:
        yield
    finally:
        manager.RemoveEntityPermission(entity=entity, user=_PRINCIPAL, isGroup=False)
        manager.RemoveAuthorizationRole(roleId=role, failIfUsed=False)
