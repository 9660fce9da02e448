"""Each check tells well, worrying and broken apart, and what to do."""

import re
import shutil
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
from typing_extensions import override

from holdfast.errors import ConfigurationInvalid
from holdfast.model.machine import Machine
from holdfast.model.selection import Selector
from holdfast.providers.local.hypervisor import LocalProvider
from tests.workers.cli.place import Place
from workers.cli import checks
from workers.cli.checks import Finding, Level
from workers.cli.invocation import Flags, Invocation
from workers.vcenter_lab import VCenterAddress


class Ungrouped(LocalProvider):
    """A hypervisor whose groups are all empty."""

    @override
    def members(self, selector: Selector) -> Iterator[Machine]:
        return iter(())


def run_of(place: Place) -> Invocation:
    return Invocation(Flags(config=place.config))


def levels(findings: object) -> dict[str, str]:
    assert isinstance(findings, list)
    return {finding.check: finding.level.value for finding in findings}


def test_a_good_place_is_well(place: Place) -> None:
    place.add_machine("web", 1)
    run = run_of(place)
    found = [*checks.check_configuration(run), *checks.check_repositories(run), *checks.check_providers(run)]
    assert levels(found) == {"configuration": "ok", "repository main": "ok", "provider lab": "ok"}


def test_no_configuration_is_a_warning(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    monkeypatch.setenv("HOLDFAST_HOME", str(empty))
    monkeypatch.delenv("HOLDFAST_CONFIG", raising=False)
    (finding,) = checks.check_configuration(Invocation(Flags()))
    assert (finding.level, "no configuration file" in finding.text) == (Level.WARN, True)


def test_a_configuration_without_places_is_a_warning(place: Place) -> None:
    place.config.write_text('[[proxies]]\nname = "p"\n')
    (finding,) = checks.check_configuration(run_of(place))
    assert finding.level is Level.WARN
    assert "no provider and no repository" in finding.text


def test_a_broken_configuration_makes_the_rest_unusable(place: Place) -> None:
    place.config.write_text("x = 1")
    findings = list(checks.check_configuration(run_of(place)))
    assert findings[0].exit_status == ConfigurationInvalid.exit_status
    assert not checks.is_usable(findings)
    assert checks.is_usable([checks.ok("configuration", "")])


def test_home_and_credentials_are_looked_at(place: Place) -> None:
    place.config.write_text(place.config.read_text() + 'credential = "night"\n')
    assert levels(list(checks.check_home(run_of(place)))) == {"home": "ok", "credential night": "ok", "catalog": "warn"}
    (place.root / "home" / "credentials" / "night").chmod(0o644)
    (place.root / "home").chmod(0o777)
    found = levels(list(checks.check_home(run_of(place))))
    assert found == {"home": "warn", "credential night": "fail", "catalog": "warn"}
    shutil.rmtree(place.root / "home")
    assert levels(list(checks.check_home(run_of(place))))["home"] == "warn"


def test_a_catalog_that_cannot_be_used_fails(place: Place) -> None:
    (place.root / "home" / "catalog.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    assert levels(list(checks.check_home(run_of(place))))["catalog"] == "fail"


def test_a_repository_that_is_gone_fails_with_what_to_do(place: Place) -> None:
    shutil.rmtree(place.root / "repository")
    (finding,) = checks.check_repositories(run_of(place))
    assert (finding.level, finding.code) == (Level.FAIL, "repository-unavailable")
    assert "holdfast repository create main" in finding.hint


def test_a_repository_behind_the_mover_of_another_host_need_not_be_here(place: Place) -> None:
    settings = place.settings.repository("main")
    shutil.rmtree(settings.path)
    run = run_of(place)
    levels_by_mover = {
        mover: checks._repository(run, msgspec.structs.replace(settings, mover=mover)).level
        for mover in ("", "127.0.0.1:9440", "192.0.2.1:9440")
    }
    assert list(levels_by_mover.values()) == [Level.FAIL, Level.FAIL, Level.OK]


def test_a_job_without_its_machine_fails(place: Place) -> None:
    assert levels(list(checks.check_providers(run_of(place)))) == {"provider lab": "warn", "job nightly": "fail"}


def test_a_provider_that_is_gone_fails(place: Place) -> None:
    shutil.rmtree(place.root / "lab")
    (finding,) = checks.check_providers(run_of(place))
    assert "holdfast provider create lab" in finding.hint


@pytest.mark.vsphere
def test_a_vcenter_tells_what_it_is_and_how_many_machines_it_shows(place: Place, vcenter: VCenterAddress) -> None:
    place.add_machine("web", 1)
    place.add_vcenter(vcenter)
    run = run_of(place)
    _, finding = checks.check_providers(run)
    run.close()
    assert (finding.check, finding.level) == ("provider vc", Level.OK)
    assert re.fullmatch(r"VMware vCenter Server [\d.]+ build-\d+, 2 machines", finding.text)


@pytest.mark.vsphere
def test_groups_of_a_job_are_looked_up_in_the_vcenter(place: Place, vcenter: VCenterAddress) -> None:
    place.add_vcenter(vcenter)
    text = place.config.read_text().replace('provider = "lab"', 'provider = "vc"')
    place.config.write_text(text.replace('["web"]', '["DC0_H0_VM0", "folder:/DC0/vm", "folder:/nowhere"]'))
    run = run_of(place)
    with closing(run):
        _, about, *others = checks.check_providers(run)
    assert about.level is Level.OK
    assert [(finding.check, finding.level) for finding in others] == [("job nightly", Level.FAIL)]
    assert "/nowhere" in others[0].text


@pytest.mark.vsphere
def test_a_vcenter_that_refuses_the_login_fails_with_what_to_do(place: Place, vcenter: VCenterAddress) -> None:
    place.add_machine("web", 1)
    place.add_vcenter(vcenter)
    place.write_credential("vc", "wrong")
    _, finding = checks.check_providers(run_of(place))
    assert (finding.level, finding.code) == (Level.FAIL, "access-denied")
    assert finding.hint


@pytest.mark.vsphere
def test_a_vcenter_without_its_password_fails(place: Place, vcenter: VCenterAddress) -> None:
    place.add_vcenter(vcenter)
    (place.root / "home" / "credentials" / "vc").unlink()
    *_, finding = checks.check_providers(run_of(place))
    assert (finding.level, finding.code) == (Level.FAIL, "credential-missing")
    assert "chmod 600" in finding.hint


def test_a_vcenter_that_is_away_fails(place: Place) -> None:
    place.add_machine("web", 1)
    place.add_vcenter()
    _, finding = checks.check_providers(run_of(place))
    assert (finding.level, finding.code) == (Level.FAIL, "provider-unavailable")
    assert finding.text.startswith("127.0.0.1:1: ")


def test_a_group_that_means_nothing_fails(place: Place) -> None:
    place.add_machine("web", 1)
    place.config.write_text(place.config.read_text().replace('["web"]', '["machine:web", "tag:gold"]'))
    found = list(checks.check_providers(run_of(place)))
    assert levels(found) == {"provider lab": "ok", "job nightly": "fail"}
    assert found[1].text == "the local provider has no tags"


def test_a_group_without_machines_is_a_warning(place: Place) -> None:
    place.config.write_text(place.config.read_text().replace('["web"]', '["tag:gold"]'))
    run = run_of(place)
    (finding,) = checks._groups(run.settings.job("nightly"), Ungrouped(place.root / "lab", run.clock))
    assert (finding.level, finding.text) == (Level.WARN, "tag:gold has no machines")


def test_the_program_of_the_development_server_is_found(place: Place) -> None:
    assert levels(list(checks.check_tools(run_of(place)))) == {"tools": "ok"}


def test_a_failure_keeps_code_status_and_hint() -> None:
    error = ConfigurationInvalid("bad", hint="Correct it.")
    assert checks.fail("x", error) == Finding(
        check="x", level=Level.FAIL, text="bad", hint="Correct it.", code=error.code, exit_status=error.exit_status
    )
    assert checks.fail("x", error, "Look.").hint == "Look."
    assert checks.warn("x", "t", "h").level is Level.WARN
