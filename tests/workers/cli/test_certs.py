"""``holdfast certs`` makes certificates and says what to do with them."""

import shutil
from pathlib import Path

import pytest

from holdfast.errors import RequestInvalid
from holdfast.mover.rehearsal import objection
from tests.workers.cli.place import Place, call, one_document
from workers.config import load_settings
from workers.movers import mover_identity


def test_the_first_call_makes_the_authority_and_says_what_to_copy(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    told = call("certs", "repo-a", "--to", str(folder), "--address", "10.0.0.5", "-a", "repo-a.example").stdout
    assert "a new authority, until 20" in told
    assert f"{folder}/ca.key stays off the workers" in told
    assert "repo-a for 10.0.0.5, repo-a.example, until 20" in told
    for line in (
        f"{folder}/ca.pem",
        f"{folder}/repo-a.pem",
        f"{folder}/repo-a.key",
        "[mover]",
        'key = "tls/repo-a.key"',
    ):
        assert f"    {line}\n" in told
    again = call("certs", "proxy-a", "--to", str(folder)).stdout
    assert "new authority" not in again
    assert "proxy-a for proxy-a, until 20" in again


def test_without_a_folder_it_is_certs_in_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = one_document(call("certs", "a", "b", "--json"))
    assert document["authority"]["key"] == str(tmp_path / "certs" / "ca.key")
    assert [one["name"] for one in document["certificates"]] == ["a", "b"]


def test_the_lines_that_are_told_make_a_configuration_that_works(place: Place) -> None:
    folder = place.root / "certs"
    document = place.json("certs", "repo-a", "--to", str(folder), "--address", "10.0.0.5")
    (one,) = document["certificates"]
    (place.root / "tls").mkdir()
    for path in (document["authority"]["certificate"], one["certificate"], one["key"]):
        shutil.copy(path, place.root / "tls")
    before, heading, behind = place.config.read_text().partition("[[providers]]")
    place.config.write_text(before + one["configuration"] + heading + behind)
    identity = mover_identity(load_settings(place.config, {}))
    assert identity is not None
    assert objection(identity, "10.0.0.5") is None


def test_a_certificate_that_is_there_is_renewed_only_when_asked_to(tmp_path: Path) -> None:
    call("certs", "repo-a", "--to", str(tmp_path))
    refused = call("certs", "repo-a", "--to", str(tmp_path))
    assert refused.exit_code == RequestInvalid.exit_status
    assert "--renew" in refused.stderr
    told = call("certs", "repo-a", "--to", str(tmp_path), "--renew").stdout
    assert f"the old one is kept as {tmp_path}/repo-a-until-" in told


def test_a_mistake_makes_nothing(tmp_path: Path) -> None:
    document = one_document(
        call("certs", "a", "b", "--address", "10.0.0.1", "--to", str(tmp_path / "certs"), "--json"),
        RequestInvalid.exit_status,
    )
    assert document["error"]["code"] == "request-invalid"
    assert not (tmp_path / "certs").exists()


def test_a_broken_configuration_is_not_in_the_way(place: Place) -> None:
    # The table `mover` may name files that only this command can make.
    place.config.write_text("x = 1")
    assert place.json("certs", "a", "--to", str(place.root / "certs"))["certificates"]
