"""A vCenter is examined without touching a machine, and everything that is wrong becomes a finding."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from pyVmomi import vim
from typing_extensions import override

from holdfast.clock import Clock, SystemClock
from holdfast.errors import AccessDenied, ProviderUnavailable
from holdfast.providers.vsphere import privileges
from holdfast.providers.vsphere.privileges import LEAST_ROLE
from holdfast.providers.vsphere.self_test import Finding, Verdict
from holdfast.providers.vsphere.self_test_vcenter import examine
from holdfast.providers.vsphere.settings import VSphereSettings
from tests.holdfast.providers.vsphere.accounts import PASSWORD, USER, account_with
from tests.holdfast.providers.vsphere.bench import VSphereBench
from tests.lab.vcenter.client import Client

pytestmark = [pytest.mark.vsphere, pytest.mark.tools("nbdkit")]

MIB = 1 << 20
CHANGES = ("CreateSnapshot_Task", "ReconfigVM_Task", "CreateVM_Task", "PowerOnVM_Task", "RemoveSnapshot_Task")


class AheadClock(SystemClock):
    """Runs two minutes ahead."""

    @override
    def now(self) -> datetime:
        return super().now() + timedelta(minutes=2)


def examined(settings: VSphereSettings, clock: Clock | None = None) -> dict[str, Finding]:
    found = list(examine(settings, clock or SystemClock()))
    assert max(Counter(one.check for one in found).values()) == 1
    return {one.check: one for one in found}


def endpoint_with(bench: VSphereBench, **changes: Any) -> VSphereSettings:
    return msgspec.structs.replace(bench.settings, endpoint=msgspec.structs.replace(bench.settings.endpoint, **changes))


def as_account(bench: VSphereBench) -> VSphereSettings:
    return endpoint_with(bench, user=USER, password=lambda: PASSWORD)


def test_a_good_vcenter_is_well_and_no_machine_is_touched(bench: VSphereBench) -> None:
    bench.make_machine("web", [MIB])
    bench.client.control("DELETE", "/calls")
    found = examined(bench.settings)
    assert {one.verdict for one in found.values()} == {Verdict.OK}, found
    assert found["connection"].text.endswith("the certificate is the pinned one")
    assert found["machines"].text == "1 seen, 1 can be protected"
    assert found[f"transport https, datastore {bench.store}"].text.endswith(".vmdk is readable")
    assert found[f"transport direct, datastore {bench.store}"].text.endswith(".vmdk is readable")
    calls = bench.client.control("GET", "/calls")
    assert [name for name in CHANGES if name in calls] == []


def test_a_skewed_clock_is_a_warning(bench: VSphereBench) -> None:
    finding = examined(bench.settings, AheadClock())["clock"]
    assert finding.verdict is Verdict.WARNING
    assert finding.text.endswith("behind this host")


def test_a_wrong_thumbprint_ends_it_at_once(bench: VSphereBench) -> None:
    [finding] = examine(endpoint_with(bench, thumbprint="ab" * 32), SystemClock())
    assert (finding.check, finding.verdict, finding.code) == ("connection", Verdict.FAILED, AccessDenied.code)
    assert "pinned is abab" in finding.text


def test_a_host_that_is_away_ends_it_at_once(bench: VSphereBench) -> None:
    [finding] = examine(endpoint_with(bench, port=1), SystemClock())
    assert (finding.check, finding.code) == ("connection", ProviderUnavailable.code)


def test_an_authority_that_did_not_sign_the_certificate_is_named(bench: VSphereBench) -> None:
    [finding] = examine(endpoint_with(bench, thumbprint=None), SystemClock())
    assert finding.code == AccessDenied.code
    assert "certificate" in finding.text


def test_missing_privileges_are_listed_by_feature(bench: VSphereBench, vc: Client) -> None:
    bench.make_machine("web", [MIB])
    lacking = {"VirtualMachine.State.RemoveSnapshot", "Datastore.AllocateSpace"}
    with account_with(vc, sorted({one.name for one in LEAST_ROLE} - lacking)):
        found = examined(as_account(bench))
    backup, restore = found["privileges for backup"], found["privileges for restore to a new machine"]
    assert (backup.verdict, backup.code) == (Verdict.FAILED, AccessDenied.code)
    assert backup.text == "missing: VirtualMachine.State.RemoveSnapshot on every machine"
    assert restore.verdict is Verdict.WARNING
    assert restore.text == "missing: Datastore.AllocateSpace on every datastore"
    assert found["privileges for change tracking"].verdict is Verdict.OK


def test_the_least_role_is_enough(bench: VSphereBench, vc: Client) -> None:
    bench.make_machine("web", [MIB])
    with account_with(vc, sorted({one.name for one in LEAST_ROLE})):
        found = examined(as_account(bench))
    assert {one.verdict for one in found.values()} == {Verdict.OK}, found


def test_every_privilege_of_the_role_is_one_that_vsphere_has(vc: Client) -> None:
    [administrator] = [role for role in vc.content.authorizationManager.roleList if role.name == "Admin"]
    known = set(administrator.privilege)
    assert {one.name for one in privileges.LEAST_ROLE} - known == set()


def test_templates_and_machines_without_tracking_are_named(bench: VSphereBench) -> None:
    golden = bench.make_machine("golden", [MIB])
    vm = bench.vm(golden.machine_id)
    vm.MarkAsTemplate()
    try:
        found = examined(bench.settings)
    finally:
        vm.MarkAsVirtualMachine(pool=bench.client.all(vim.ResourcePool)[0], host=None)
    assert found["machines"].text == "1 seen, 0 can be protected"
    assert found["templates"].text.endswith(": golden")


def test_a_vcenter_that_refuses_a_question_is_told_for_that_question_only(bench: VSphereBench) -> None:
    bench.make_machine("web", [MIB])
    rule = {"method": "CurrentTime", "at": 1, "times": 2, "action": "fail", "fault": "HostCommunication"}
    bench.client.control("POST", "/faults", rule)
    found = examined(bench.settings)
    assert found["clock"].verdict is Verdict.FAILED
    assert found["machines"].verdict is Verdict.OK


def test_a_datastore_without_a_machine_has_nothing_to_try(bench: VSphereBench) -> None:
    found = examined(bench.settings)
    assert found[f"transport https, datastore {bench.store}"].text == "no disk there to try"
    assert found["machines"].verdict is Verdict.WARNING
