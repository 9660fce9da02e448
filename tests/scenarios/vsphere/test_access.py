"""What a vCenter refuses: one clear error that says what to give, and nothing is left."""

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.errors import AccessDenied
from tests.lab.vcenter.client import vim
from tests.scenarios.vsphere.installation import LIMITED, LIMITED_PASSWORD, LIMITED_USER, STRANGER
from tests.scenarios.vsphere.stage import Stage

pytestmark = [pytest.mark.slow, pytest.mark.temporal, pytest.mark.vsphere]

PRINCIPAL = "VSPHERE.LOCAL\\backup"
NEEDED = (
    "Datastore.Browse",
    "Datastore.FileManagement",
    "Global.DisableMethods",
    "Global.EnableMethods",
    "VirtualMachine.Config.ChangeTracking",
    "VirtualMachine.Provisioning.DiskRandomRead",
    "VirtualMachine.Provisioning.GetVmFiles",
    "VirtualMachine.State.CreateSnapshot",
    "VirtualMachine.State.RemoveSnapshot",
)


class Role:
    """What the limited account may do on everything."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        stage.control("POST", "/users", {"name": LIMITED_USER, "password": LIMITED_PASSWORD})
        self._role = self._manager.AddAuthorizationRole(name="Backup", privIds=[])
        permission = vim.AuthorizationManager.Permission(
            principal=PRINCIPAL, group=False, roleId=self._role, propagate=True
        )
        self._manager.SetEntityPermissions(entity=stage.vc.content.rootFolder, permission=[permission])

    def allow(self, *privileges: str) -> None:
        self._manager.UpdateAuthorizationRole(roleId=self._role, newName="Backup", privIds=list(privileges))

    def remove(self) -> None:
        root = self._stage.vc.content.rootFolder
        self._manager.RemoveEntityPermission(entity=root, user=PRINCIPAL, isGroup=False)
        self._manager.RemoveAuthorizationRole(roleId=self._role, failIfUsed=False)

    @property
    def _manager(self) -> Any:
        return self._stage.vc.content.authorizationManager


@pytest.fixture
def role(stage: Stage) -> Iterator[Role]:
    role = Role(stage)
    yield role
    role.remove()


async def test_a_missing_privilege_is_named_and_once_given_suffices(stage: Stage, role: Role) -> None:
    machine = stage.machine("guarded")
    stage.vc.track_changes(stage.vm(machine))
    files = stage.files()
    missing = "VirtualMachine.State.CreateSnapshot"
    role.allow(*(privilege for privilege in NEEDED if privilege != missing))
    error = await stage.failure(stage.backup(machine, LIMITED))
    assert isinstance(error, AccessDenied)
    assert f"taking a snapshot of machine '{machine.name}'" in error.message
    assert f"privilege {missing}" in error.message
    assert "role" in error.hint
    assert stage.points(machine) == 0
    stage.expect_nothing_left(files)
    role.allow(*NEEDED)
    await stage.run(stage.backup(machine, LIMITED))
    assert stage.stored(machine) == stage.content(machine)
    await stage.expect_sound(machine, files)


async def test_a_snapshot_that_may_not_be_removed_is_told_and_kept_in_sight(stage: Stage, role: Role) -> None:
    machine = stage.machine("half-guarded")
    await stage.run(stage.backup(machine))  # switches change tracking on
    files = stage.files()
    role.allow(*(privilege for privilege in NEEDED if not privilege.endswith("RemoveSnapshot")))
    result = await stage.run(stage.backup(machine, LIMITED))
    [note] = result.session.notes
    assert "the snapshot is left behind" in note
    assert "privilege VirtualMachine.State.RemoveSnapshot" in note
    assert len(stage.snapshots()) == 1
    stage.vc.wait(stage.vm(machine).RemoveAllSnapshots_Task())
    await stage.expect_sound(machine, files)


async def test_a_refused_password_says_what_to_look_at(stage: Stage) -> None:
    machine = stage.machine("locked")
    files = stage.files()
    for reference in (machine, machine.name):
        error = await stage.failure(stage.backup(reference, STRANGER))
        assert isinstance(error, AccessDenied)
        assert stage.address.user in error.message
        assert "password" in error.hint
    stage.expect_nothing_left(files)


async def test_another_certificate_is_refused_until_it_is_the_pinned_one_again(stage: Stage) -> None:
    machine = stage.machine("certified")
    await stage.run(stage.backup(machine))
    files = stage.files()
    stage.replace_certificate()
    try:
        error = await stage.failure(stage.backup(machine))
        assert isinstance(error, AccessDenied)
        assert "certificate" in error.message
        assert "certificate" in error.hint
    finally:
        stage.restore_certificate()
    await stage.expect_sound(machine, files)
