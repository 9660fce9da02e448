"""Each check tells well, worrying and broken apart, and what to do."""

import shutil

import pytest

from holdfast.errors import ConfigurationInvalid
from tests.workers.cli.place import Place
from workers.cli import checks
from workers.cli.checks import Finding, Level
from workers.cli.invocation import Flags, Invocation


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


def test_a_job_without_its_machine_fails(place: Place) -> None:
    assert levels(list(checks.check_providers(run_of(place)))) == {"provider lab": "warn", "job nightly": "fail"}


def test_a_provider_that_is_gone_fails(place: Place) -> None:
    shutil.rmtree(place.root / "lab")
    (finding,) = checks.check_providers(run_of(place))
    assert "holdfast provider create lab" in finding.hint


def test_the_program_of_the_development_server_is_found(place: Place) -> None:
    assert levels(list(checks.check_tools(run_of(place)))) == {"tools": "ok"}


def test_a_failure_keeps_code_status_and_hint() -> None:
    error = ConfigurationInvalid("bad", hint="Correct it.")
    assert checks.fail("x", error) == Finding(
        check="x", level=Level.FAIL, text="bad", hint="Correct it.", code=error.code, exit_status=error.exit_status
    )
    assert checks.fail("x", error, "Look.").hint == "Look."
    assert checks.warn("x", "t", "h").level is Level.WARN
