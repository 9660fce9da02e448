"""A vCenter is tested from the command line; exit status and document are those of every doctor."""

import pytest

from holdfast.errors import AccessDenied, ConfigurationInvalid, CredentialMissing, ProviderUnavailable, RequestInvalid
from tests.holdfast.providers.vsphere.accounts import PASSWORD, USER, account_with
from tests.lab.vcenter.client import Client
from tests.workers.cli.place import Place
from workers.vcenter_lab import SOURCES, VCenterAddress


def test_only_a_vcenter_can_be_tested(place: Place) -> None:
    error = place.json("doctor", "vsphere", "lab", status=RequestInvalid.exit_status)["error"]
    assert error["message"] == "provider lab is not of kind vsphere"
    place.json("doctor", "vsphere", "nobody", status=ConfigurationInvalid.exit_status)


def test_a_host_that_is_away_is_the_only_finding(place: Place) -> None:
    place.add_vcenter()
    document = place.json("doctor", "vsphere", "vc", "--machine", "web", status=ProviderUnavailable.exit_status)
    assert [finding["check"] for finding in document["findings"]] == ["connection"]
    assert document["error"]["code"] == ProviderUnavailable.code


@pytest.mark.vsphere
def test_a_password_that_is_not_there_is_the_only_finding(place: Place, vcenter: VCenterAddress) -> None:
    ready(place, vcenter)
    (place.root / "home" / "credentials" / "vc").unlink()
    document = place.json("doctor", "vsphere", "vc", status=CredentialMissing.exit_status)
    assert [finding["code"] for finding in document["findings"]] == [CredentialMissing.code]


@pytest.mark.vsphere
@pytest.mark.tools("nbdkit")
def test_a_good_vcenter_passes_and_a_named_machine_is_tried(place: Place, vcenter: VCenterAddress) -> None:
    ready(place, vcenter)
    result = place.run("doctor", "vsphere", "vc")
    assert result.exit_code == 0, result.output
    assert "ok  product" in result.stdout
    document = place.json("doctor", "vsphere", "vc", "--machine", "DC0_H0_VM0")
    levels = {finding["check"]: finding["level"] for finding in document["findings"]}
    assert levels["removal"] == levels["snapshot"] == levels["rate over https"] == "ok"
    assert "fail" not in levels.values()
    assert (
        "a snapshot is taken of machine DC0_H0_VM0"
        in place.run("doctor", "vsphere", "vc", "--machine", "DC0_H0_VM0").stderr
    )


@pytest.mark.vsphere
@pytest.mark.tools("nbdkit")
def test_missing_privileges_end_it_with_their_status(place: Place, vcenter: VCenterAddress) -> None:
    ready(place, vcenter)
    place.config.write_text(place.config.read_text().replace(vcenter.user, USER))
    place.write_credential("vc", PASSWORD)
    admin = Client(vcenter)
    try:
        with account_with(admin, ["Datastore.Browse"]):
            document = place.json("doctor", "vsphere", "vc", status=AccessDenied.exit_status)
    finally:
        admin.close()
    [failed] = [finding for finding in document["findings"] if finding["level"] == "fail"]
    assert failed["check"] == "privileges for backup"
    assert "VirtualMachine.State.CreateSnapshot on every machine" in failed["text"]


@pytest.mark.vsphere
def test_a_wrong_thumbprint_is_refused_with_the_right_one(place: Place, vcenter: VCenterAddress) -> None:
    ready(place, vcenter)
    place.config.write_text(place.config.read_text().replace(vcenter.thumbprint_sha256, "cd" * 32))
    document = place.json("doctor", "vsphere", "vc", status=AccessDenied.exit_status)
    shown = vcenter.thumbprint_sha256.replace(":", "").lower()
    assert shown in document["findings"][0]["text"]


def ready(place: Place, vcenter: VCenterAddress) -> None:
    """Add the lab vCenter with its plugin, however full the disk of this host is."""
    place.add_vcenter(vcenter)
    more = f'free_space_min_percent = 0\nnbdkit_plugin = ["python", "{SOURCES / "plugin" / "lab.py"}"]'
    place.config.write_text(place.config.read_text().replace('credential = "vc"', f'credential = "vc"\n{more}'))
